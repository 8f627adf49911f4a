#include <pybind11/numpy.h>

#include "bindings/registers.h"
#include "core/descriptor.h"

namespace py = pybind11;

namespace {

py::array_t<float> describe(const py::array_t<std::uint8_t, py::array::c_style>& frames) {
  const auto size = [&](py::ssize_t axis) { return static_cast<std::size_t>(frames.shape(axis)); };
  py::array_t<float> rows({size(0), action100m::kDescriptorDimension});
  {
    const std::uint8_t* pixels = frames.data();
    float* out = rows.mutable_data();
    const py::gil_scoped_release release;
    action100m::describe(pixels, size(0), size(1), size(2), out);
  }
  return rows;
}

}  // namespace

void register_descriptor(py::module_& module) {
  module.attr("DESCRIPTOR_DIMENSION") = action100m::kDescriptorDimension;
  module.def("describe", &describe, py::arg("frames").noconvert(),
             "(b, h, w, 3) uint8 RGB -> (b, DESCRIPTOR_DIMENSION) float32. Arguments are checked "
             "by action100m.segmentation.encoders.descriptor.");
}

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>

#include "bindings/registers.h"
#include "core/resample.h"

namespace py = pybind11;

namespace {

py::array_t<float> preprocess(const py::array_t<std::uint8_t, py::array::c_style>& frames,
                              std::size_t short_side, std::size_t size,
                              const std::array<double, 3>& mean, const std::array<double, 3>& std) {
  const auto axis = [&](py::ssize_t i) { return static_cast<std::size_t>(frames.shape(i)); };
  const action100m::Crop crop = action100m::centre_crop(axis(1), axis(2), short_side, size);
  py::array_t<float> prepared({axis(0), std::size_t{3}, size, size});
  {
    const std::uint8_t* pixels = frames.data();
    float* out = prepared.mutable_data();
    const py::gil_scoped_release release;
    action100m::preprocess(pixels, axis(0), axis(1), axis(2), crop,
                           action100m::Normalisation(mean, std), out);
  }
  return prepared;
}

}  // namespace

void register_resample(py::module_& module) {
  module.def("preprocess", &preprocess, py::arg("frames").noconvert(), py::arg("short_side"),
             py::arg("size"), py::arg("mean"), py::arg("std"),
             "(b, h, w, 3) uint8 RGB -> (b, 3, size, size) float32. Arguments are checked by "
             "action100m.segmentation.kernels.");
}

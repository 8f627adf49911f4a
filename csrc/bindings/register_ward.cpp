#include <pybind11/numpy.h>

#include "bindings/registers.h"
#include "core/ward.h"

namespace py = pybind11;

namespace {

template <class Scalar>
py::tuple ward(const py::array_t<Scalar, py::array::c_style>& rows) {
  const py::ssize_t n = rows.shape(0);
  py::array_t<std::int64_t> children({n - 1, py::ssize_t{2}});
  py::array_t<double> heights(n - 1);
  {
    const Scalar* input = rows.data();
    std::int64_t* merges = children.mutable_data();
    double* costs = heights.mutable_data();
    const py::gil_scoped_release release;
    action100m::ward(input, static_cast<std::size_t>(n), static_cast<std::size_t>(rows.shape(1)),
                     merges, costs);
  }
  return py::make_tuple(children, heights);
}

}  // namespace

void register_ward(py::module_& module) {
  module.def("ward", &ward<float>, py::arg("rows").noconvert(),
             "(n, d) -> children (n-1, 2) int64, heights (n-1,) float64. Arguments are checked by "
             "action100m.tree.ward.");
  module.def("ward", &ward<double>, py::arg("rows").noconvert());
}

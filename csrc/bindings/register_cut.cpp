#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/registers.h"
#include "core/cut.h"

namespace py = pybind11;

namespace {

template <class Value>
py::array_t<Value> as_array(const std::vector<Value>& values) {
  return py::array_t<Value>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple cut(const py::array_t<std::int64_t, py::array::c_style>& children,
              const py::array_t<double, py::array::c_style>& edges, double min_duration,
              double absorb_above) {
  action100m::Tree tree;
  {
    const std::int64_t* merges = children.data();
    const double* times = edges.data();
    const auto n = static_cast<std::size_t>(edges.shape(0) - 1);
    const py::gil_scoped_release release;
    tree = action100m::cut(merges, n, times, min_duration, absorb_above);
  }
  return py::make_tuple(as_array(tree.start), as_array(tree.end), as_array(tree.parent),
                        as_array(tree.level), tree.absorbed);
}

py::array_t<std::int64_t> first_frames(
    const py::array_t<std::int64_t, py::array::c_style>& children) {
  const auto n = static_cast<std::size_t>(children.shape(0) + 1);
  py::array_t<std::int64_t> first(static_cast<py::ssize_t>(2 * n - 1));
  action100m::first_frames(children.data(), n, first.mutable_data());
  return first;
}

}  // namespace

void register_cut(py::module_& module) {
  module.def("cut", &cut, py::arg("children").noconvert(), py::arg("edges").noconvert(),
             py::arg("min_duration"), py::arg("absorb_above"),
             "children (n-1, 2), edges (n+1,) -> start, end, parent, level, absorbed. Arguments "
             "are checked by action100m.tree.cut.");
  module.def("first_frames", &first_frames, py::arg("children").noconvert(),
             "children (n-1, 2) -> (2n-1,): the first frame of every node.");
}

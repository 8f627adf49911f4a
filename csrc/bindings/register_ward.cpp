#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/registers.h"
#include "core/ward.h"

namespace py = pybind11;

namespace {

using action100m::SimdPath;

const char* name(SimdPath path) {
  return path == SimdPath::avx512 ? "avx512" : path == SimdPath::avx2 ? "avx2" : "scalar";
}

std::vector<std::string> simd_paths() {
  std::vector<std::string> names;
  for (const SimdPath path : action100m::simd_paths()) names.push_back(name(path));
  return names;
}

SimdPath path_named(const std::optional<std::string>& wanted) {
  const auto paths = action100m::simd_paths();
  if (!wanted) return paths.back();
  const auto found = std::find_if(paths.begin(), paths.end(),
                                  [&](SimdPath path) { return name(path) == *wanted; });
  if (found == paths.end()) throw std::invalid_argument("This processor has no path " + *wanted);
  return *found;
}

template <class Scalar>
py::tuple ward(const py::array_t<Scalar, py::array::c_style>& rows,
               const std::optional<std::string>& path, std::optional<std::size_t> block_length) {
  const auto n = static_cast<std::size_t>(rows.shape(0));
  const auto d = static_cast<std::size_t>(rows.shape(1));
  py::array_t<std::int64_t> children({n - 1, std::size_t{2}});
  py::array_t<double> heights(static_cast<py::ssize_t>(n - 1));
  {
    const Scalar* input = rows.data();
    std::int64_t* merges = children.mutable_data();
    double* costs = heights.mutable_data();
    const SimdPath simd = path_named(path);
    const py::gil_scoped_release release;
    action100m::ward(input, n, d, merges, costs, simd,
                     block_length.value_or(action100m::default_block_length(d)));
  }
  return py::make_tuple(children, heights);
}

}  // namespace

void register_ward(py::module_& module) {
  module.def("simd_paths", &simd_paths, "Paths that this processor supports, slowest first.");
  module.def("ward", &ward<float>, py::arg("rows").noconvert(), py::arg("path") = py::none(),
             py::arg("block") = py::none(),
             "(n, d) -> children (n-1, 2) int64, heights (n-1,) float64. Arguments are checked by "
             "action100m.tree.ward; path and block are for tests and do not change the result.");
  module.def("ward", &ward<double>, py::arg("rows").noconvert(), py::arg("path") = py::none(),
             py::arg("block") = py::none());
}

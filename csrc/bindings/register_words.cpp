#include <pybind11/numpy.h>

#include "bindings/registers.h"
#include "core/words.h"

namespace py = pybind11;

namespace {

std::int64_t count_words(const py::array_t<std::int32_t, py::array::c_style>& offsets,
                         const py::array_t<bool, py::array::c_style>& given,
                         const py::array_t<std::uint8_t, py::array::c_style>& characters) {
  const std::int32_t* at = offsets.data();
  const bool* there = given.data();
  const auto n = static_cast<std::size_t>(given.shape(0));
  const std::uint8_t* text = characters.data();
  const py::gil_scoped_release release;
  return action100m::count_words(at, there, n, text);
}

}  // namespace

void register_words(py::module_& module) {
  module.def("count_words", &count_words, py::arg("offsets").noconvert(),
             py::arg("given").noconvert(), py::arg("characters").noconvert(),
             "offsets (n+1,), given (n,), characters -> number of words in the given texts. "
             "Arguments are not checked: action100m.dataset.running_statistics takes them from a "
             "validated Arrow array.");
}

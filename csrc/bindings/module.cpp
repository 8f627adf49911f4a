#include "bindings/registers.h"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "The compiled core of action100m. Private: use the action100m package.";
  module.attr("__version__") = ACTION100M_VERSION;
  register_cut(module);
  register_descriptor(module);
  register_resample(module);
  register_ward(module);
  register_words(module);
}

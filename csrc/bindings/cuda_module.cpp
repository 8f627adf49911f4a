#include "bindings/registers.h"

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
  module.doc() = "CUDA kernels of action100m. Private: use action100m.segmentation.kernels.";
  module.attr("ARCHITECTURES") = ACTION100M_CUDA_ARCHITECTURES;
  register_cuda(module);
}

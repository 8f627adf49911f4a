#include "cuda/runtime.h"

#include <stdexcept>
#include <string>

namespace action100m::cuda {

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  // Errors that do not break the context are also kept until someone asks.
  static_cast<void>(cudaGetLastError());
  const bool absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
  throw std::runtime_error((absent ? "No usable NVIDIA GPU is here: " : "CUDA failed: ") +
                           std::string(cudaGetErrorString(status)) + " (" +
                           cudaGetErrorName(status) + " from " + call + " at " +
                           std::string(file).substr(std::string(file).rfind('/') + 1) + ":" +
                           std::to_string(line) + ").");
}

}  // namespace action100m::cuda

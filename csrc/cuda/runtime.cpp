#include "cuda/runtime.h"

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace action100m::cuda {
namespace {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string sentence) : sentence_(std::move(sentence)) {}
  const char* what() const noexcept override { return sentence_.c_str(); }

 private:
  std::string sentence_;
};

}  // namespace

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  // CUDA also keeps errors that do not break the context until they are read.
  static_cast<void>(cudaGetLastError());
  const bool absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
  const std::string sentence = (absent ? "No usable NVIDIA GPU found: " : "CUDA failed: ") +
                               std::string(cudaGetErrorString(status)) + " (" +
                               cudaGetErrorName(status) + " from " + call + " at " +
                               std::string(file).substr(std::string(file).rfind('/') + 1) + ":" +
                               std::to_string(line) + ").";
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(sentence);
  throw std::runtime_error(sentence);
}

}  // namespace action100m::cuda

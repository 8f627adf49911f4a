#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>
#include <vector>

// Wraps every call of the CUDA runtime, so that no error goes unnoticed.
#define CUDA_CHECK(call) ::action100m::cuda::check((call), #call, __FILE__, __LINE__)

namespace action100m::cuda {

// Unless `status` is success, throws an exception with CUDA's message and the place of the call:
// std::bad_alloc if memory is full, else std::runtime_error.
void check(cudaError_t status, const char* call, const char* file, int line);

// Makes a device current, and restores the previous one at the end.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    CUDA_CHECK(cudaGetDevice(&before_));
    CUDA_CHECK(cudaSetDevice(device));
  }
  ~CurrentDevice() { static_cast<void>(cudaSetDevice(before_)); }  // a destructor cannot throw
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

// A copy of `values` in the current device's memory, made on `stream`, which must not wait for
// long.
template <class Value>
class DeviceVector {
 public:
  DeviceVector(const std::vector<Value>& values, cudaStream_t stream) {
    const std::size_t bytes = values.size() * sizeof(Value);
    CUDA_CHECK(cudaMalloc(&data_, bytes));
    cudaError_t status =
        cudaMemcpyAsync(data_, values.data(), bytes, cudaMemcpyHostToDevice, stream);
    // Other streams will read the data too.
    if (status == cudaSuccess) status = cudaStreamSynchronize(stream);
    if (status != cudaSuccess) static_cast<void>(cudaFree(data_));
    CUDA_CHECK(status);
  }
  DeviceVector(DeviceVector&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  DeviceVector& operator=(DeviceVector&&) = delete;
  ~DeviceVector() { static_cast<void>(cudaFree(data_)); }  // waits for kernels that still read it

  const Value* data() const { return data_; }

 private:
  Value* data_ = nullptr;
};

}  // namespace action100m::cuda

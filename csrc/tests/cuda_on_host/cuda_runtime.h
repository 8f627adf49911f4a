#pragma once
// Replaces CUDA's header of this name, so that the kernels run on the CPU under sanitizers: a
// block's threads are std::threads, its barrier a std::barrier. It has only what csrc/cuda uses.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/check.h"

#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x, y;
  explicit(false) dim3(unsigned across, unsigned down = 1) : x(across), y(down) {}
};

inline thread_local dim3 threadIdx{0};
inline thread_local dim3 blockIdx{0};
inline thread_local dim3 blockDim{1};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::max;
using std::min;

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t both = (std::uint64_t{high} << 32) | low;
  unsigned bytes = 0;
  for (unsigned i = 0; i < 4; ++i) {
    bytes |= static_cast<unsigned>((both >> (8 * (selector >> (4 * i) & 7))) & 255) << (8 * i);
  }
  return bytes;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((std::uint64_t{high} << 32) | low) >> shift);
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
template <class Value>
Value __ldcs(const Value* source) {
  CHECK(reinterpret_cast<std::uintptr_t>(source) % sizeof(Value) == 0);
  return *source;
}

using cudaError_t = int;
using cudaStream_t = void*;
inline constexpr cudaError_t cudaSuccess = 0;
inline constexpr cudaError_t cudaErrorNoDevice = 1;
inline constexpr cudaError_t cudaErrorInsufficientDriver = 2;
inline constexpr cudaError_t cudaErrorMemoryAllocation = 3;
inline constexpr int cudaMemcpyHostToDevice = 0;
inline constexpr int cudaDevAttrMaxSharedMemoryPerBlockOptin = 0;
inline constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 0;

inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline const char* cudaGetErrorName(cudaError_t) { return ""; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) {
  *value = 227 * 1024;  // a Hopper's shared memory
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}
template <class Value>
cudaError_t cudaMalloc(Value** memory, std::size_t bytes) {
  *memory = static_cast<Value*>(std::malloc(bytes));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, int,
                                   cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

inline std::barrier<>* block_barrier;
inline std::uint8_t* block_memory;  // what `extern __shared__` names

inline void __syncthreads() { block_barrier->arrive_and_wait(); }

// Replaces kernel<<<grid, threads, shared_bytes, stream>>>(arguments...), and waits for its end.
template <class... Expected, class... Given>
void launch_on_host(void (*kernel)(Expected...), dim3 grid, dim3 block, std::size_t shared_bytes,
                    cudaStream_t, Given... arguments) {
  std::barrier barrier(block.x);
  std::vector<uint4> memory((shared_bytes + sizeof(uint4) - 1) / sizeof(uint4));
  block_barrier = &barrier;
  block_memory = reinterpret_cast<std::uint8_t*>(memory.data());
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < block.x; ++i) {
    threads.emplace_back([&, i] {
      threadIdx.x = i;
      blockDim = block;
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx.x = x;
          blockIdx.y = y;
          kernel(arguments...);
          barrier.arrive_and_wait();  // the next block reuses the shared memory
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

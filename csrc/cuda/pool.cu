#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cuda/pool.h"
#include "cuda/runtime.h"

namespace action100m::cuda {
namespace {

constexpr int kWarpSize = 32;
// Per block; each sums every eighth token. Fewer threads could not add up all channels at the end:
// 32 vectors have up to 8 values each.
constexpr int kWarps = 8;
// 16-byte loads per thread, to hide their latency: their 32 registers are half of what a thread has
// if four blocks share a multiprocessor.
constexpr int kLoadsInFlight = 8;
// Floats per row of partial sums. When a warp adds them up, it reads four columns of eight rows (of
// 16-bit values): 36 floats per row put all of these into different banks.
constexpr int kPaddedLanes = 36;

// 16 bytes, interpreted as values.
template <class Value>
struct Vector {
  static constexpr int kLength = 16 / sizeof(Value);
  uint4 bits;

  __device__ void add_to(float (&sum)[kLength]) const {
    Value values[kLength];
    memcpy(values, &bits, sizeof bits);
#pragma unroll
    for (int i = 0; i < kLength; ++i) sum[i] += static_cast<float>(values[i]);
  }
};

// Four blocks per multiprocessor: with more, the compiler saves registers and waits for every
// load. A block handles 32 vectors of one row; thread (lane, warp) sums one vector of every eighth
// token.
template <class Value>
__global__ void __launch_bounds__(kWarpSize* kWarps, 4)
    pool_kernel(const uint4* __restrict__ tokens, float* __restrict__ out, unsigned places,
                unsigned vectors, unsigned chunks, float share) {
  constexpr int kLength = Vector<Value>::kLength;
  const std::size_t row = blockIdx.x / chunks;
  const unsigned first = blockIdx.x % chunks * kWarpSize;
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned warp = threadIdx.x / kWarpSize;

  float sum[kLength] = {};
  if (first + lane < vectors) {
    const uint4* source = tokens + row * places * vectors + first + lane;
    unsigned place = warp;
    for (; place + (kLoadsInFlight - 1) * kWarps < places; place += kLoadsInFlight * kWarps) {
      Vector<Value> loaded[kLoadsInFlight];
#pragma unroll
      for (int i = 0; i < kLoadsInFlight; ++i) {
        loaded[i].bits = __ldcs(source + std::size_t{place + i * kWarps} * vectors);
      }
#pragma unroll
      for (int i = 0; i < kLoadsInFlight; ++i) loaded[i].add_to(sum);
    }
    for (; place < places; place += kWarps) {
      Vector<Value>{__ldcs(source + std::size_t{place} * vectors)}.add_to(sum);
    }
  }

  __shared__ float partial[kWarps][kLength][kPaddedLanes];
#pragma unroll
  for (int i = 0; i < kLength; ++i) partial[warp][i][lane] = sum[i];
  __syncthreads();
  const unsigned channel = threadIdx.x;
  if (channel >= kLength * kWarpSize || first * kLength + channel >= vectors * kLength) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += partial[i][channel % kLength][channel / kLength];
  out[row * vectors * kLength + first * kLength + channel] = total * share;
}

template <class Value>
void launch_pool(const void* tokens, std::size_t rows, std::size_t places, std::size_t dimension,
                 float* out, cudaStream_t stream) {
  const std::size_t vectors = dimension / Vector<Value>::kLength;
  const std::size_t chunks = (vectors + kWarpSize - 1) / kWarpSize;
  pool_kernel<Value><<<static_cast<unsigned>(rows * chunks), kWarpSize * kWarps, 0, stream>>>(
      static_cast<const uint4*>(tokens), out, static_cast<unsigned>(places),
      static_cast<unsigned>(vectors), static_cast<unsigned>(chunks),
      1.0F / static_cast<float>(places));
  CUDA_CHECK(cudaGetLastError());
}

struct Starts {
  static constexpr std::size_t kMost = 64;  // within the 4 KiB of a kernel's arguments
  long long frame[kMost];
};

// Each thread computes one channel of one frame, window by window, so that the order is fixed.
__global__ void add_windows_kernel(const float* __restrict__ pooled,
                                   const __grid_constant__ Starts starts, int windows, int tubelets,
                                   int tubelet, unsigned dimension, long long first_frame,
                                   float* __restrict__ sums) {
  const unsigned channel = blockIdx.y * blockDim.x + threadIdx.x;
  if (channel >= dimension) return;
  const long long frame = first_frame + blockIdx.x;
  float sum = 0;
  bool covered = false;
  for (int k = 0; k < windows; ++k) {
    const long long inside = frame - starts.frame[k];
    if (inside < 0 || inside >= static_cast<long long>(tubelets) * tubelet) continue;
    const float place =
        fmaxf(0.0F, (static_cast<float>(inside) + 0.5F) / static_cast<float>(tubelet) - 0.5F);
    const int low = static_cast<int>(place);
    const int high = min(low + 1, tubelets - 1);
    const float share = place - static_cast<float>(low);
    const float* window = pooled + static_cast<std::size_t>(k) * tubelets * dimension + channel;
    if (!covered) sum = sums[frame * dimension + channel];
    covered = true;
    sum += (1.0F - share) * window[static_cast<std::size_t>(low) * dimension] +
           share * window[static_cast<std::size_t>(high) * dimension];
  }
  if (covered) sums[frame * dimension + channel] = sum;
}

}  // namespace

void pool(int device, const void* tokens, Element type, std::size_t rows, std::size_t places,
          std::size_t dimension, float* out, void* stream) {
  if (rows == 0) return;
  const CurrentDevice current(device);
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (type) {
    case Element::float16:
      return launch_pool<__half>(tokens, rows, places, dimension, out, queue);
    case Element::bfloat16:
      return launch_pool<__nv_bfloat16>(tokens, rows, places, dimension, out, queue);
    case Element::float32:
      return launch_pool<float>(tokens, rows, places, dimension, out, queue);
    default:
      throw std::invalid_argument("Tokens must be floats.");
  }
}

void add_windows(int device, const float* pooled, const std::vector<std::int64_t>& starts,
                 std::size_t tubelets, std::size_t tubelet, std::size_t dimension, float* sums,
                 void* stream) {
  const CurrentDevice current(device);
  constexpr unsigned kThreads = 256;  // any multiple of a warp would do
  for (std::size_t done = 0; done < starts.size(); done += Starts::kMost) {
    const std::size_t windows = std::min(Starts::kMost, starts.size() - done);
    Starts batch{};
    std::copy_n(starts.begin() + static_cast<std::ptrdiff_t>(done), windows, batch.frame);
    const auto [first, last] = std::minmax_element(batch.frame, batch.frame + windows);
    const dim3 grid(
        static_cast<unsigned>(*last - *first + static_cast<long long>(tubelets * tubelet)),
        static_cast<unsigned>((dimension + kThreads - 1) / kThreads));
    add_windows_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        pooled + done * tubelets * dimension, batch, static_cast<int>(windows),
        static_cast<int>(tubelets), static_cast<int>(tubelet), static_cast<unsigned>(dimension),
        *first, sums);
    CUDA_CHECK(cudaGetLastError());
  }
}

}  // namespace action100m::cuda

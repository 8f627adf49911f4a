#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>

#include "cuda/preprocess.h"
#include "cuda/runtime.h"

// A block computes a tile of the output: it copies the input pixels of the tile into shared memory,
// filters their rows into 4-byte pixels there, then filters columns, normalises and stores. The
// filters round as Pillow's do, and their sums are exact integers.
namespace action100m::cuda {
namespace {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kThreads = 256;      // a multiple of kTileColumns, as filter_rows needs
constexpr unsigned kTileColumns = 128;  // a warp stores 4 pixels per thread: 128 in a row
// Three blocks then fit into the shared memory of a Hopper multiprocessor (228 KiB), two into an
// A100's (164 KiB): some compute while others wait for their input.
constexpr unsigned kSharedBudget = 72 * 1024;
constexpr unsigned kChunk = 16;  // bytes per copy into shared memory, the most that a copy can move

// Weights are scaled so that the result is the top byte of a sum, for use with byte permutations.
constexpr unsigned kWeightShift = 24 - AxisFilter::kShift;
constexpr std::uint32_t kRounding = 1U << 23;  // half of the top byte's last bit

struct Axis {
  const std::uint32_t* first;
  const std::uint32_t* weights;
  unsigned taps;
};

struct Arguments {
  const std::uint8_t* frames;
  const std::uint8_t* end;  // of the frames
  unsigned height, width;
  Axis columns, rows;  // without filters if nothing is resized
  unsigned top, left;  // position of the crop if nothing is resized
  unsigned size;
  unsigned tile_rows, tiles_across, tiles_down;
  unsigned pitch;       // bytes between rows in shared memory
  unsigned input_rows;  // of a tile
  float scale[3], offset[3];
};

// The part of a frame that a tile needs, in shared memory. Rows keep their addresses modulo 16, so
// that they can be copied 16 bytes at a time at any address.
struct Staged {
  const std::uint8_t* origin;
  unsigned stride;  // bytes between rows in device memory
  std::uint8_t* shared;
  unsigned pitch;

  __device__ unsigned remainder(unsigned row) const {
    return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(origin) + row * stride) % kChunk;
  }
  __device__ const std::uint8_t* row(unsigned row) const {
    return shared + row * pitch + remainder(row);
  }

  __device__ void fill(unsigned rows, unsigned bytes, const Arguments& in) const {
    for (unsigned r = threadIdx.x / kWarpSize; r < rows; r += kThreads / kWarpSize) {
      const unsigned before = remainder(r);
      const std::uint8_t* source = origin + std::size_t{r} * stride - before;
      std::uint8_t* target = shared + r * pitch;
      for (unsigned i = threadIdx.x % kWarpSize * kChunk; i < before + bytes;
           i += kWarpSize * kChunk) {
        if (source + i >= in.frames && source + i + kChunk <= in.end) {
          __pipeline_memcpy_async(target + i, source + i, kChunk);
        } else {  // the first or last bytes of the frames: do not read outside
          for (unsigned k = i; k < i + kChunk; ++k) {
            if (source + k >= in.frames && source + k < in.end) target[k] = source[k];
          }
        }
      }
    }
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
  }
};

template <class Value, class Pair>
__device__ void store_bits(Value* out, const Pair (&pairs)[2]) {
  uint2 bits;
  memcpy(&bits, pairs, sizeof bits);
  *reinterpret_cast<uint2*>(out) = bits;
}

template <class Value>
__device__ void store(Value* out, const float (&v)[4]);
template <>
__device__ void store(float* out, const float (&v)[4]) {
  *reinterpret_cast<float4*>(out) = make_float4(v[0], v[1], v[2], v[3]);
}
template <>
__device__ void store(__half* out, const float (&v)[4]) {
  const __half2 pairs[2] = {__floats2half2_rn(v[0], v[1]), __floats2half2_rn(v[2], v[3])};
  store_bits(out, pairs);
}
template <>
__device__ void store(__nv_bfloat16* out, const float (&v)[4]) {
  const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v[0], v[1]),
                                   __floats2bfloat162_rn(v[2], v[3])};
  store_bits(out, pairs);
}

// The top byte of a sum as a float: the byte becomes the last bits of 2^23's mantissa.
__device__ float top_byte(std::uint32_t sum) {
  return __fadd_rn(__uint_as_float(__funnelshift_r(sum, 0x004B0000U, 24)), -8388608.0F);
}

using Fours = float[3][4];  // for each channel, four pixels side by side

// The tile of a block.
struct Tile {
  std::size_t frame;
  unsigned x, y;           // of its first pixel in the crop
  unsigned columns, rows;  // fewer at the crop's edges

  __device__ explicit Tile(const Arguments& in) {
    const unsigned tiles = in.tiles_across * in.tiles_down;
    const unsigned place = blockIdx.x % tiles;
    frame = blockIdx.x / tiles;
    x = place % in.tiles_across * kTileColumns;
    y = place / in.tiles_across * in.tile_rows;
    columns = min(kTileColumns, in.size - x);
    rows = min(in.tile_rows, in.size - y);
  }

  __device__ Staged stage(const Arguments& in, unsigned left, unsigned top,
                          std::uint8_t* shared) const {
    const unsigned stride = in.width * 3;
    return {in.frames + (frame * in.height + top) * stride + left * 3, stride, shared, in.pitch};
  }

  // Stores what pixels(row, column, fours) writes for every four columns, normalised.
  template <class Value, class Pixels>
  __device__ void write(const Arguments& in, Value* out, Pixels pixels) const {
    const unsigned column = threadIdx.x % kWarpSize * 4;
    if (column >= columns) return;
    const std::size_t plane = std::size_t{in.size} * in.size;
    for (unsigned row = threadIdx.x / kWarpSize; row < rows; row += kThreads / kWarpSize) {
      Fours values;
      pixels(row, column, values);
      Value* target = out + frame * 3 * plane + std::size_t{y + row} * in.size + x + column;
#pragma unroll
      for (int c = 0; c < 3; ++c) {
#pragma unroll
        for (float& value : values[c]) value = __fmaf_rn(value, in.scale[c], in.offset[c]);
        store(target + c * plane, values[c]);
      }
    }
  }
};

// Filters the rows of a tile into pixels of 4 bytes. Each thread handles one column.
// kTaps: the number of taps if it is known at compile time, else 0.
template <int kTaps>
__device__ void filter_rows(const Arguments& in, const Tile& tile, const Staged& staged,
                            unsigned rows, std::uint32_t* intermediate) {
  const unsigned column = threadIdx.x % kTileColumns;
  if (column >= tile.columns) return;
  const unsigned x = tile.x + column;
  const unsigned offset = (in.columns.first[x] - in.columns.first[tile.x]) * 3;
  const std::uint32_t* weights = in.columns.weights + x * in.columns.taps;
  std::uint32_t kept[kTaps == 0 ? 1 : kTaps];
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap) kept[tap] = weights[tap];

  for (unsigned row = threadIdx.x / kTileColumns; row < rows; row += kThreads / kTileColumns) {
    const std::uint8_t* pixel = staged.row(row) + offset;
    std::uint32_t red = kRounding;
    std::uint32_t green = kRounding;
    std::uint32_t blue = kRounding;
    const auto add = [&](std::uint32_t weight) {
      red += weight * pixel[0];
      green += weight * pixel[1];
      blue += weight * pixel[2];
      pixel += 3;
    };
    if constexpr (kTaps == 0) {
      for (unsigned tap = 0; tap < in.columns.taps; ++tap) add(weights[tap]);
    } else {
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) add(kept[tap]);
    }
    // The top bytes of red, green and blue; nobody reads the fourth byte.
    const std::uint32_t pair = __byte_perm(red, green, 0x4473);
    intermediate[row * kTileColumns + column] = __byte_perm(pair, blue, 0x4710);
  }
}

// Adds `weight` times four pixels. The permutation takes byte c of a pixel, and zeros.
__device__ void add_pixels(std::uint32_t (&sums)[3][4], const uint4& pixels, std::uint32_t weight) {
  const std::uint32_t words[4] = {pixels.x, pixels.y, pixels.z, pixels.w};
#pragma unroll
  for (int c = 0; c < 3; ++c) {
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[c][k] += weight * __byte_perm(words[k], 0, 0x4440 + c);
  }
}

// Five blocks per multiprocessor, so that the compiler uses 48 registers: without a number of
// blocks, it confines itself to 40.
template <int kTaps, class Value>
__global__ void __launch_bounds__(kThreads, 5)
    resize_kernel(const __grid_constant__ Arguments in, Value* __restrict__ out) {
  extern __shared__ __align__(16) std::uint8_t memory[];
  const Tile tile(in);
  const unsigned left = in.columns.first[tile.x];
  const unsigned top = in.rows.first[tile.y];
  const unsigned right =
      min(in.width, in.columns.first[tile.x + tile.columns - 1] + in.columns.taps);
  const unsigned bottom = min(in.height, in.rows.first[tile.y + tile.rows - 1] + in.rows.taps);

  const Staged staged = tile.stage(in, left, top, memory);
  staged.fill(bottom - top, (right - left) * 3, in);
  auto* intermediate = reinterpret_cast<std::uint32_t*>(memory + in.input_rows * in.pitch);
  filter_rows<kTaps>(in, tile, staged, bottom - top, intermediate);
  __syncthreads();

  tile.write(in, out, [&](unsigned row, unsigned column, Fours& values) {
    const unsigned y = tile.y + row;
    const auto* pixels = reinterpret_cast<const uint4*>(
        intermediate + (in.rows.first[y] - top) * kTileColumns + column);
    const std::uint32_t* weights = in.rows.weights + y * in.rows.taps;
    std::uint32_t sums[3][4];
#pragma unroll
    for (int i = 0; i < 12; ++i) sums[i / 4][i % 4] = kRounding;
    if constexpr (kTaps == 0) {
      for (unsigned tap = 0; tap < in.rows.taps; ++tap) {
        add_pixels(sums, pixels[tap * (kTileColumns / 4)], weights[tap]);
      }
    } else {
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
        add_pixels(sums, pixels[tap * (kTileColumns / 4)], weights[tap]);
      }
    }
#pragma unroll
    for (int i = 0; i < 12; ++i) values[i / 4][i % 4] = top_byte(sums[i / 4][i % 4]);
  });
}

template <class Value>
__global__ void __launch_bounds__(kThreads)
    crop_kernel(const __grid_constant__ Arguments in, Value* __restrict__ out) {
  extern __shared__ __align__(16) std::uint8_t memory[];
  const Tile tile(in);
  const Staged staged = tile.stage(in, in.left + tile.x, in.top + tile.y, memory);
  staged.fill(tile.rows, tile.columns * 3, in);
  tile.write(in, out, [&](unsigned row, unsigned column, Fours& values) {
    const std::uint8_t* pixel = staged.row(row) + column * 3;
#pragma unroll
    for (int i = 0; i < 12; ++i) values[i % 3][i / 3] = static_cast<float>(pixel[i]);
  });
}

template <class Value>
using Kernel = void (*)(Arguments, Value*);

// The kernel for filters with this number of taps; 0 if nothing is resized.
template <class Value>
Kernel<Value> kernel_for(unsigned taps) {
  switch (taps) {
    case 0:
      return crop_kernel<Value>;
    case 3:
      return resize_kernel<3, Value>;
    case 4:
      return resize_kernel<4, Value>;
    case 6:
      return resize_kernel<6, Value>;
    default:
      return resize_kernel<0, Value>;
  }
}

template <class Value>
void launch(const Arguments& arguments, unsigned blocks, unsigned taps, unsigned shared_bytes,
            int shared_limit, void* out, cudaStream_t stream) {
  const Kernel<Value> kernel = kernel_for<Value>(taps);
  // Set the device's limit, not what this launch needs: another thread may need more.
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_limit));
  kernel<<<blocks, kThreads, shared_bytes, stream>>>(arguments, static_cast<Value*>(out));
  CUDA_CHECK(cudaGetLastError());
}

// The largest number of inputs that the outputs of a tile span.
unsigned widest_span(const AxisFilter& filter, std::size_t tile) {
  unsigned widest = 0;
  for (std::size_t i = 0; i < filter.first.size(); i += tile) {
    const std::size_t last = std::min(i + tile, filter.first.size()) - 1;
    widest =
        std::max(widest, filter.first[last] - filter.first[i] + static_cast<unsigned>(filter.taps));
  }
  return widest;
}

// The filter padded to the kernel's number of taps, with weights in the kernel's scale.
AxisFilter for_kernel(const AxisFilter& filter, std::size_t taps) {
  AxisFilter padded{taps, filter.first, std::vector<std::uint32_t>(filter.first.size() * taps)};
  for (std::size_t i = 0; i < filter.weights.size(); ++i) {
    padded.weights[i / filter.taps * taps + i % filter.taps] = filter.weights[i] << kWeightShift;
  }
  return padded;
}

unsigned rounded_up(unsigned value, unsigned multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

struct Preprocessor::Plan {
  int device;
  unsigned taps = 0;
  unsigned shared_bytes = 0;
  int shared_limit = 0;  // of a block on this device
  Arguments arguments{};
  std::vector<DeviceVector<std::uint32_t>> uploaded;

  Plan(int on, std::size_t height, std::size_t width, const Crop& crop,
       const Normalisation& normalisation, cudaStream_t stream)
      : device(on) {
    const CurrentDevice current(device);
    arguments.height = static_cast<unsigned>(height);
    arguments.width = static_cast<unsigned>(width);
    arguments.size = static_cast<unsigned>(crop.size);
    arguments.top = static_cast<unsigned>(crop.top);
    arguments.left = static_cast<unsigned>(crop.left);
    std::copy_n(normalisation.scale.begin(), 3, arguments.scale);
    std::copy_n(normalisation.offset.begin(), 3, arguments.offset);
    arguments.tiles_across = rounded_up(arguments.size, kTileColumns) / kTileColumns;
    if (crop.height == height && crop.width == width) {
      plan_tiles([](unsigned rows) { return rows; }, std::min(arguments.size, kTileColumns), 0);
    } else {
      plan_filters(triangle_filter(width, crop.width, crop.left, crop.size),
                   triangle_filter(height, crop.height, crop.top, crop.size), stream);
    }
  }

  // The unrolled kernels are for frames that are shrunk to no less than 2/3, 1/2 and 2/5 of their
  // sides (480, 720 and 1080 rows to 438); filters with fewer taps are padded.
  void plan_filters(const AxisFilter& across, const AxisFilter& down, cudaStream_t stream) {
    const std::size_t most = std::max(across.taps, down.taps);
    taps = static_cast<unsigned>(most <= 3 ? 3 : most <= 4 ? 4 : most <= 6 ? 6 : most);
    const AxisFilter columns = for_kernel(across, taps);
    const AxisFilter rows = for_kernel(down, taps);
    arguments.columns = upload(columns, stream);
    arguments.rows = upload(rows, stream);
    plan_tiles([&](unsigned tile) { return widest_span(rows, tile); },
               widest_span(columns, kTileColumns), kTileColumns * 4);
  }

  Axis upload(const AxisFilter& filter, cudaStream_t stream) {
    const auto* first = uploaded.emplace_back(filter.first, stream).data();
    const auto* weights = uploaded.emplace_back(filter.weights, stream).data();
    return {first, weights, static_cast<unsigned>(filter.taps)};
  }

  // Finds the tallest tile, of at most 32 rows, whose input (and filtered rows, `filtered` bytes
  // each) fits the budget. Taller tiles filter fewer rows twice, but make fewer blocks.
  template <class Span>
  void plan_tiles(Span input_rows, unsigned input_columns, unsigned filtered) {
    arguments.pitch = rounded_up(kChunk - 1 + input_columns * 3, kChunk);
    arguments.tile_rows = 64;
    do {
      arguments.tile_rows /= 2;
      arguments.input_rows = input_rows(arguments.tile_rows);
      shared_bytes = arguments.input_rows * (arguments.pitch + filtered);
    } while (shared_bytes > kSharedBudget && arguments.tile_rows > 1);
    CUDA_CHECK(
        cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    if (shared_bytes > static_cast<unsigned>(shared_limit)) {
      throw std::invalid_argument("Frames of " + std::to_string(arguments.width) + " x " +
                                  std::to_string(arguments.height) +
                                  " pixels are too large to be shrunk so far in one step.");
    }
    arguments.tiles_down = rounded_up(arguments.size, arguments.tile_rows) / arguments.tile_rows;
  }
};

Preprocessor::Preprocessor(int device, std::size_t height, std::size_t width, const Crop& crop,
                           const Normalisation& normalisation, void* stream)
    : plan_(std::make_unique<const Plan>(device, height, width, crop, normalisation,
                                         static_cast<cudaStream_t>(stream))) {}

Preprocessor::~Preprocessor() = default;

void Preprocessor::operator()(const std::uint8_t* frames, std::size_t n, void* out, Element type,
                              void* stream) const {
  if (n == 0) return;
  const CurrentDevice current(plan_->device);
  Arguments arguments = plan_->arguments;
  arguments.frames = frames;
  arguments.end = frames + n * arguments.height * arguments.width * 3;
  const auto blocks = static_cast<unsigned>(n * arguments.tiles_across * arguments.tiles_down);
  const auto queue = static_cast<cudaStream_t>(stream);
  const auto [taps, bytes, limit] =
      std::tuple(plan_->taps, plan_->shared_bytes, plan_->shared_limit);
  switch (type) {
    case Element::float16:
      return launch<__half>(arguments, blocks, taps, bytes, limit, out, queue);
    case Element::bfloat16:
      return launch<__nv_bfloat16>(arguments, blocks, taps, bytes, limit, out, queue);
    case Element::float32:
      return launch<float>(arguments, blocks, taps, bytes, limit, out, queue);
    default:
      throw std::invalid_argument("Prepared frames must be floats.");
  }
}

}  // namespace action100m::cuda

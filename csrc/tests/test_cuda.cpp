// Compares the CUDA kernels, run on the CPU (see cuda_on_host/), with the CPU core: their indices,
// bounds and arithmetic. What only a GPU can show is tested in tests/gpu.
#include <cuda_bf16.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/resample.h"
#include "cuda/pool.h"
#include "cuda/preprocess.h"
#include "tests/check.h"

using action100m::Crop;
using action100m::Normalisation;
using action100m::cuda::Element;

namespace {

const Normalisation kNormalisation({0.485, 0.456, 0.406}, {0.229, 0.224, 0.225});
std::mt19937 generator(1);

// Memory as the kernels need it: aligned, and of the exact size, so that sanitizers see overruns.
template <class Value>
std::unique_ptr<Value, decltype(&std::free)> memory(std::size_t count) {
  auto* values = static_cast<Value*>(std::aligned_alloc(16, count * sizeof(Value)));
  std::memset(static_cast<void*>(values), 0xFF, count * sizeof(Value));  // NaN
  return {values, &std::free};
}

void preprocess_gives_the_cores_bits(std::size_t n, std::size_t height, std::size_t width,
                                     std::size_t short_side, std::size_t size, std::size_t shift) {
  std::vector<std::uint8_t> bytes(shift + n * height * width * 3);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
  const std::uint8_t* frames = bytes.data() + shift;
  const Crop crop = action100m::centre_crop(height, width, short_side, size);
  const std::size_t count = n * 3 * size * size;
  std::vector<float> wanted(count);
  action100m::preprocess(frames, n, height, width, crop, kNormalisation, wanted.data());

  const action100m::cuda::Preprocessor prepare(0, height, width, crop, kNormalisation, nullptr);
  const auto floats = memory<float>(count);
  prepare(frames, n, floats.get(), Element::float32, nullptr);
  CHECK(std::memcmp(floats.get(), wanted.data(), count * sizeof(float)) == 0);
  const auto halves = memory<__nv_bfloat16>(count);
  prepare(frames, n, halves.get(), Element::bfloat16, nullptr);
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(halves.get()[i].bits == __float2bfloat16_rn(wanted[i]).bits);
  }
}

void preprocess() {
  preprocess_gives_the_cores_bits(1, 480, 854, 438, 384, 0);   // 3 taps
  preprocess_gives_the_cores_bits(1, 216, 384, 164, 144, 1);   // 4
  preprocess_gives_the_cores_bits(1, 540, 960, 219, 192, 2);   // 6
  preprocess_gives_the_cores_bits(1, 610, 1010, 64, 56, 3);    // 20
  preprocess_gives_the_cores_bits(1, 133, 137, 137, 136, 5);   // a second tile of one group of 8
  preprocess_gives_the_cores_bits(2, 164, 293, 164, 144, 15);  // nothing to resize
  preprocess_gives_the_cores_bits(1, 1, 1, 16, 16, 0);
  preprocess_gives_the_cores_bits(1, 3, 2, 24, 24, 0);
  for (int i = 0; i < 20; ++i) {
    const auto below = [](unsigned end) { return generator() % end; };
    const std::size_t size = 8 * (1 + below(12));
    preprocess_gives_the_cores_bits(1 + below(2), 1 + below(150), 1 + below(150), size + below(20),
                                    size, below(16));
  }
}

void pool_averages(std::size_t rows, std::size_t places, std::size_t dimension) {
  std::normal_distribution<float> normal;
  const auto tokens = memory<__nv_bfloat16>(rows * places * dimension);
  std::vector<double> wanted(rows * dimension);
  for (std::size_t i = 0; i < rows * places * dimension; ++i) {
    tokens.get()[i] = __float2bfloat16_rn(normal(generator));
    wanted[i / (places * dimension) * dimension + i % dimension] +=
        static_cast<double>(static_cast<float>(tokens.get()[i])) / static_cast<double>(places);
  }
  std::vector<float> pooled(rows * dimension, NAN);
  action100m::cuda::pool(0, tokens.get(), Element::bfloat16, rows, places, dimension, pooled.data(),
                         nullptr);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CHECK(std::abs(static_cast<double>(pooled[i]) - wanted[i]) < 2e-6);
  }
}

// A window in which each tubelet is the number of its middle frame interpolates to frame numbers.
void windows_interpolate(std::size_t windows) {
  constexpr std::size_t kTubelets = 4;
  constexpr std::size_t kDimension = 3;
  std::vector<std::int64_t> starts;
  std::vector<float> pooled;
  for (std::size_t k = 0; k < windows; ++k) {
    starts.push_back(static_cast<std::int64_t>(k));
    for (std::size_t i = 0; i < kTubelets * kDimension; ++i) {
      pooled.push_back(2 * static_cast<float>(i / kDimension) + 0.5F);
    }
  }
  std::vector<float> sums((windows + 7) * kDimension, 1.0F);
  action100m::cuda::add_windows(0, pooled.data(), starts, kTubelets, 2, kDimension, sums.data(),
                                nullptr);
  for (std::size_t frame = 0; frame < windows + 7; ++frame) {
    float wanted = 1;
    for (std::size_t k = 0; k < windows; ++k) {
      if (frame < k || frame >= k + 8) continue;
      wanted += std::clamp(static_cast<float>(frame - k), 0.5F, 6.5F);  // the ends repeat
    }
    for (std::size_t c = 0; c < kDimension; ++c) {
      CHECK(std::abs(sums[frame * kDimension + c] - wanted) < 1e-4F);
    }
  }
}

}  // namespace

int main() {
  preprocess();
  pool_averages(2, 576, 264);
  pool_averages(3, 65, 1408);
  pool_averages(5, 1, 8);
  windows_interpolate(1);
  windows_interpolate(100);  // more than one launch takes
}

#include <cmath>
#include <stdexcept>
#include <vector>

#include "core/resample.h"
#include "tests/check.h"

using action100m::AxisFilter;
using action100m::Crop;
using action100m::Normalisation;

namespace {

const Normalisation kPlain({0, 0, 0}, {1, 1, 1});  // to 0 … 1

void weights_sum_to_one() {
  for (std::size_t in = 1; in < 40; ++in) {
    for (std::size_t out = 1; out < 40; ++out) {
      const AxisFilter filter = action100m::triangle_filter(in, out, 0, out);
      for (std::size_t i = 0; i < out; ++i) {
        long long sum = 0;
        for (std::size_t tap = 0; tap < filter.taps; ++tap) {
          const std::uint32_t weight = filter.weights[i * filter.taps + tap];
          CHECK(weight == 0 || filter.first[i] + tap < in);
          sum += weight;
        }
        // The error of the sum must never change an 8-bit result.
        CHECK(std::llabs(sum - (1LL << AxisFilter::kShift)) * 255 <
              1LL << (AxisFilter::kShift - 1));
      }
    }
  }
}

void one_colour_stays_one_colour() {
  for (const std::size_t height : {1, 2, 5, 17}) {
    for (const std::size_t width : {1, 3, 8, 31}) {
      const std::vector<std::uint8_t> white(height * width * 3, 255);
      const Crop crop = action100m::centre_crop(height, width, 9, 8);
      std::vector<float> out(3 * 8 * 8);
      action100m::preprocess(white.data(), 1, height, width, crop, kPlain, out.data());
      for (const float value : out) CHECK(std::abs(value - 1.0F) < 1e-6F);
    }
  }
}

void channels_are_planes() {
  const std::vector<std::uint8_t> pixels{255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255};
  std::vector<float> out(3 * 2 * 2);
  action100m::preprocess(pixels.data(), 1, 2, 2, action100m::centre_crop(2, 2, 0, 2), kPlain,
                         out.data());
  const std::vector<int> wanted{1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1};
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(std::lround(out[i]) == wanted[i]);
}

void a_crop_must_lie_in_the_frame() {
  const Crop crop = action100m::centre_crop(480, 854, 438, 384);
  CHECK(crop.height == 438 && crop.width == 779 && crop.top == 27 && crop.left == 197);
  try {
    action100m::centre_crop(480, 854, 438, 439);
    CHECK(false);
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

int main() {
  weights_sum_to_one();
  one_colour_stays_one_colour();
  channels_are_planes();
  a_crop_must_lie_in_the_frame();
}

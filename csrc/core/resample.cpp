#include "core/resample.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace action100m {
namespace {

constexpr std::size_t kChannels = 3;

using Tables = std::array<std::array<float, 256>, kChannels>;

Tables normalised_values(const Normalisation& normalisation) {
  Tables tables;
  for (std::size_t c = 0; c < kChannels; ++c) {
    for (std::size_t value = 0; value < 256; ++value) {
      tables[c][value] =
          std::fma(static_cast<float>(value), normalisation.scale[c], normalisation.offset[c]);
    }
  }
  return tables;
}

// The filter's weighted sum over `pixels`, which are `step` bytes apart, rounded to 8 bits. No
// clipping is needed: the weights are positive, and their sum exceeds 1 << shift by less than the
// rounding of a result.
std::uint8_t filtered(const std::uint8_t* pixels, std::size_t step, const std::uint32_t* weights,
                      std::size_t taps) {
  std::uint32_t sum = 1U << (AxisFilter::kShift - 1);
  for (std::size_t tap = 0; tap < taps; ++tap) {
    if (weights[tap] != 0) sum += weights[tap] * pixels[tap * step];
  }
  return static_cast<std::uint8_t>(sum >> AxisFilter::kShift);
}

class Resizer {
 public:
  Resizer(std::size_t height, std::size_t width, const Crop& crop)
      : width_(width),
        size_(crop.size),
        columns_(triangle_filter(width, crop.width, crop.left, crop.size)),
        rows_(triangle_filter(height, crop.height, crop.top, crop.size)),
        top_(rows_.first.front()),
        bottom_(std::min<std::size_t>(height, rows_.first.back() + rows_.taps)),
        intermediate_((bottom_ - top_) * crop.size * kChannels) {}

  // frame (height, width, 3) -> out (3, size, size)
  void operator()(const std::uint8_t* frame, const Tables& tables, float* out) {
    filter_rows(frame);
    for (std::size_t y = 0; y < size_; ++y) {
      const std::uint8_t* source = &intermediate_[(rows_.first[y] - top_) * size_ * kChannels];
      for (std::size_t x = 0; x < size_; ++x) {
        for (std::size_t c = 0; c < kChannels; ++c) {
          out[(c * size_ + y) * size_ + x] =
              tables[c][filtered(source + x * kChannels + c, size_ * kChannels,
                                 &rows_.weights[y * rows_.taps], rows_.taps)];
        }
      }
    }
  }

 private:
  void filter_rows(const std::uint8_t* frame) {
    std::uint8_t* target = intermediate_.data();
    for (std::size_t y = top_; y < bottom_; ++y) {
      const std::uint8_t* row = frame + y * width_ * kChannels;
      for (std::size_t x = 0; x < size_; ++x) {
        for (std::size_t c = 0; c < kChannels; ++c) {
          *target++ = filtered(row + columns_.first[x] * kChannels + c, kChannels,
                               &columns_.weights[x * columns_.taps], columns_.taps);
        }
      }
    }
  }

  std::size_t width_, size_;
  AxisFilter columns_, rows_;
  std::size_t top_, bottom_;                // range of input rows that the crop needs
  std::vector<std::uint8_t> intermediate_;  // (bottom - top, size, 3)
};

}  // namespace

Crop centre_crop(std::size_t height, std::size_t width, std::size_t short_side, std::size_t size) {
  const std::size_t shorter = std::min(height, width);
  if (shorter == 0) throw std::invalid_argument("Frames need at least one pixel.");
  const std::size_t wanted = short_side == 0 ? shorter : short_side;
  if (size == 0 || size > wanted) {
    throw std::invalid_argument("A crop of " + std::to_string(size) +
                                " pixels does not fit into frames whose shorter side is " +
                                std::to_string(wanted) + ".");
  }
  const std::size_t new_height = wanted * height / shorter;
  const std::size_t new_width = wanted * width / shorter;
  return {new_height, new_width, (new_height - size) / 2, (new_width - size) / 2, size};
}

AxisFilter triangle_filter(std::size_t in, std::size_t out, std::size_t begin, std::size_t count) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double radius = std::max(scale, 1.0);
  std::vector<std::vector<std::uint32_t>> weights(count);
  AxisFilter filter{0, std::vector<std::uint32_t>(count), {}};
  for (std::size_t i = 0; i < count; ++i) {
    const double centre = (static_cast<double>(begin + i) + 0.5) * scale;
    const auto low = static_cast<std::size_t>(std::max(0.0, centre - radius + 0.5));
    const auto high = std::min(in, static_cast<std::size_t>(centre + radius + 0.5));
    std::vector<double> exact;
    double sum = 0;
    for (std::size_t x = low; x < high; ++x) {
      const double distance = (static_cast<double>(x) - centre + 0.5) * (1.0 / radius);
      exact.push_back(std::max(0.0, 1.0 - std::abs(distance)));
      sum += exact.back();
    }
    for (const double weight : exact) {
      weights[i].push_back(
          static_cast<std::uint32_t>(0.5 + weight / sum * (1U << AxisFilter::kShift)));
    }
    while (weights[i].size() > 1 && weights[i].back() == 0) weights[i].pop_back();
    filter.first[i] = static_cast<std::uint32_t>(low);
    filter.taps = std::max(filter.taps, weights[i].size());
  }
  for (auto& row : weights) {
    row.resize(filter.taps);
    filter.weights.insert(filter.weights.end(), row.begin(), row.end());
  }
  return filter;
}

Normalisation::Normalisation(const std::array<double, 3>& mean, const std::array<double, 3>& std) {
  for (std::size_t c = 0; c < kChannels; ++c) {
    scale[c] = static_cast<float>(1.0 / (255.0 * std[c]));
    offset[c] = static_cast<float>(-mean[c] / std[c]);
  }
}

void preprocess(const std::uint8_t* frames, std::size_t n, std::size_t height, std::size_t width,
                const Crop& crop, const Normalisation& normalisation, float* out) {
  const Tables tables = normalised_values(normalisation);
  Resizer resize(height, width, crop);
  for (std::size_t i = 0; i < n; ++i) {
    resize(frames + i * height * width * kChannels, tables,
           out + i * kChannels * crop.size * crop.size);
  }
}

}  // namespace action100m

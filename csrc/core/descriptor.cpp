#include "core/descriptor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace action100m {
namespace {

constexpr std::size_t kCells = kDescriptorCells;
// None of these is critical: with half or twice kFlat or kColourWeight, bench/tree_quality.py's
// mean F1 changes by 0.0002 at most, and with kNoise = 2, the tree misses one more of 157 cuts.
constexpr int kNoise = 6;              // luma steps; weaker gradients are sensor and codec noise
constexpr double kFlat = 16;           // gradient per pixel; the edges of flatter cells fade out
constexpr double kColourWeight = 0.5;  // relative to the edges

struct Span {
  std::size_t first, last;  // [first, last), never empty
  std::size_t size() const { return last - first; }
};

Span span_of_cell(std::size_t cell, std::size_t count, std::size_t side) {
  const std::size_t first = cell * side / count;
  return {first, std::max((cell + 1) * side / count, first + 1)};
}

struct CellSums {
  std::array<std::int64_t, 4> edges{};    // right, left, down, up
  std::array<std::int64_t, 3> colours{};  // luma, red - blue, 2 green - red - blue
  std::int64_t pixels = 0;
};

// The luma of one frame, with its border repeated once on every side.
class PaddedLuma {
 public:
  PaddedLuma(std::size_t height, std::size_t width)
      : height_(height), stride_(width + 2), values_((height + 2) * stride_) {}

  void fill(const std::uint8_t* rgb) {
    const std::size_t width = stride_ - 2;
    for (std::size_t y = 0; y < height_; ++y) {
      std::uint8_t* out = row(y);
      const std::uint8_t* in = rgb + 3 * y * width;
      for (std::size_t x = 0; x < width; ++x) {
        out[x] = static_cast<std::uint8_t>(
            // BT.601's weights, in 256ths.
            (77 * in[3 * x] + 150 * in[3 * x + 1] + 29 * in[3 * x + 2]) >> 8);
      }
      out[-1] = out[0];
      out[width] = out[width - 1];
    }
    std::copy_n(row(0) - 1, stride_, row(0) - 1 - stride_);
    std::copy_n(row(height_ - 1) - 1, stride_, row(height_ - 1) - 1 + stride_);
  }

  const std::uint8_t* row(std::size_t y) const { return &values_[(y + 1) * stride_ + 1]; }
  std::size_t stride() const { return stride_; }

 private:
  std::uint8_t* row(std::size_t y) { return &values_[(y + 1) * stride_ + 1]; }

  std::size_t height_, stride_;
  std::vector<std::uint8_t> values_;
};

// Sums over the columns of a band of rows, because whole rows are long enough for vector
// instructions and single cells are not.
class ColumnSums {
 public:
  explicit ColumnSums(std::size_t width) : luma_(width), rgb_(3 * width) {
    for (auto& edge : edges_) edge.resize(width);
  }

  void clear() {
    for (auto& edge : edges_) std::fill(edge.begin(), edge.end(), 0);
    std::fill(luma_.begin(), luma_.end(), 0);
    std::fill(rgb_.begin(), rgb_.end(), 0);
  }

  void add_row(const std::uint8_t* rgb, const std::uint8_t* luma, std::size_t stride) {
    add_edges(luma - 1, luma + 1, edges_[0].data(), edges_[1].data());
    add_edges(luma - stride, luma + stride, edges_[2].data(), edges_[3].data());
    for (std::size_t x = 0; x < luma_.size(); ++x) luma_[x] += luma[x];
    for (std::size_t x = 0; x < rgb_.size(); ++x) rgb_[x] += rgb[x];
  }

  CellSums over(Span columns, std::size_t rows) const {
    CellSums sums;
    for (std::size_t x = columns.first; x < columns.last; ++x) {
      for (std::size_t k = 0; k < edges_.size(); ++k) sums.edges[k] += edges_[k][x];
      const std::int64_t red = rgb_[3 * x], green = rgb_[3 * x + 1], blue = rgb_[3 * x + 2];
      sums.colours[0] += luma_[x];
      sums.colours[1] += red - blue;
      sums.colours[2] += 2 * green - red - blue;
    }
    sums.pixels = static_cast<std::int64_t>(rows * columns.size());
    return sums;
  }

 private:
  void add_edges(const std::uint8_t* before, const std::uint8_t* after, std::int32_t* rising,
                 std::int32_t* falling) const {
    for (std::size_t x = 0; x < luma_.size(); ++x) {
      const int slope = after[x] - before[x];
      rising[x] += std::max(slope - kNoise, 0);
      falling[x] += std::max(-slope - kNoise, 0);
    }
  }

  std::array<std::vector<std::int32_t>, 4> edges_;
  std::vector<std::int32_t> luma_, rgb_;
};

// Dividing by the number of cells makes squared distances of frames means over their cells.
void write_cell(const CellSums& sums, float* out) {
  static const double kRootOfCells = std::sqrt(static_cast<double>(kCells));
  const auto pixels = static_cast<double>(sums.pixels);
  const auto [right, left, down, up] = sums.edges;
  const double all = static_cast<double>(right + left + down + up) + kFlat * pixels;
  for (const std::int64_t edge : sums.edges) {
    *out++ = static_cast<float>(std::sqrt(static_cast<double>(edge) / (all * kCells)));
  }
  constexpr std::array<double, 3> kRange{255, 255, 510};  // the largest magnitudes
  for (std::size_t k = 0; k < kRange.size(); ++k) {
    const double mean = static_cast<double>(sums.colours[k]) / pixels;
    *out++ = static_cast<float>(mean / kRange[k] * kColourWeight / kRootOfCells);
  }
}

void describe_frame(const std::uint8_t* rgb, const PaddedLuma& luma, std::size_t height,
                    std::size_t width, ColumnSums& sums, float* out) {
  const std::size_t down = height > width ? kDescriptorCellsLong : kDescriptorCellsShort;
  const std::size_t across = kCells / down;
  for (std::size_t i = 0; i < down; ++i) {
    const Span rows = span_of_cell(i, down, height);
    sums.clear();
    for (std::size_t y = rows.first; y < rows.last; ++y) {
      sums.add_row(rgb + 3 * y * width, luma.row(y), luma.stride());
    }
    for (std::size_t j = 0; j < across; ++j, out += kDescriptorChannels) {
      write_cell(sums.over(span_of_cell(j, across, width), rows.size()), out);
    }
  }
}

}  // namespace

void describe(const std::uint8_t* frames, std::size_t n, std::size_t height, std::size_t width,
              float* rows) {
  PaddedLuma luma(height, width);
  ColumnSums sums(width);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* rgb = frames + i * height * width * 3;
    luma.fill(rgb);
    describe_frame(rgb, luma, height, width, sums, rows + i * kDescriptorDimension);
  }
}

}  // namespace action100m

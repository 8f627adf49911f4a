#include "core/descriptor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace action100m {
namespace {

constexpr std::size_t cells = descriptor_cells;
constexpr int noise = 6;               // luma steps: weaker gradients are sensor and codec noise
constexpr double flat = 16;            // gradient per pixel: cells with less fade out, not up
constexpr double colour_weight = 0.5;  // against the edges'

struct Span {
  std::size_t first, last;  // [first, last), never empty
  std::size_t size() const { return last - first; }
};

Span span_of_cell(std::size_t cell, std::size_t cells, std::size_t side) {
  const std::size_t first = cell * side / cells;
  return {first, std::max((cell + 1) * side / cells, first + 1)};
}

struct CellSums {
  std::array<std::int64_t, 4> edges{};    // right, left, down, up
  std::array<std::int64_t, 3> colours{};  // luma, red - blue, 2 green - red - blue
  std::int64_t pixels = 0;
};

// One frame's luma with its border repeated once on every side.
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

void add_edges(const std::uint8_t* luma, std::size_t stride, Span columns, CellSums& sums) {
  std::int32_t right = 0, left = 0, down = 0, up = 0;
  for (std::size_t x = columns.first; x < columns.last; ++x) {
    const int across = luma[x + 1] - luma[x - 1];
    const int along = luma[x + stride] - luma[x - stride];
    right += std::max(across - noise, 0);
    left += std::max(-across - noise, 0);
    down += std::max(along - noise, 0);
    up += std::max(-along - noise, 0);
  }
  sums.edges[0] += right;
  sums.edges[1] += left;
  sums.edges[2] += down;
  sums.edges[3] += up;
}

void add_colours(const std::uint8_t* rgb, const std::uint8_t* luma, Span columns, CellSums& sums) {
  std::int32_t red = 0, green = 0, blue = 0, bright = 0;
  for (std::size_t x = columns.first; x < columns.last; ++x) {
    red += rgb[3 * x];
    green += rgb[3 * x + 1];
    blue += rgb[3 * x + 2];
    bright += luma[x];
  }
  sums.colours[0] += bright;
  sums.colours[1] += red - blue;
  sums.colours[2] += 2 * green - red - blue;
}

CellSums sum_cell(const std::uint8_t* rgb, const PaddedLuma& luma, std::size_t width, Span rows,
                  Span columns) {
  CellSums sums;
  for (std::size_t y = rows.first; y < rows.last; ++y) {
    add_edges(luma.row(y), luma.stride(), columns, sums);
    add_colours(rgb + 3 * y * width, luma.row(y), columns, sums);
  }
  sums.pixels = static_cast<std::int64_t>(rows.size() * columns.size());
  return sums;
}

// Dividing by the number of cells makes a frame's squared distances means over its cells.
void write_cell(const CellSums& sums, float* out) {
  static const double root_of_cells = std::sqrt(static_cast<double>(cells));
  const auto pixels = static_cast<double>(sums.pixels);
  const auto [right, left, down, up] = sums.edges;
  const double all = static_cast<double>(right + left + down + up) + flat * pixels;
  for (const std::int64_t edge : sums.edges) {
    *out++ = static_cast<float>(std::sqrt(static_cast<double>(edge) / (all * cells)));
  }
  constexpr std::array<double, 3> range{255, 255, 510};
  for (std::size_t k = 0; k < range.size(); ++k) {
    const double mean = static_cast<double>(sums.colours[k]) / pixels;
    *out++ = static_cast<float>(mean / range[k] * colour_weight / root_of_cells);
  }
}

void describe_frame(const std::uint8_t* rgb, const PaddedLuma& luma, std::size_t height,
                    std::size_t width, float* row) {
  const std::size_t down = height > width ? descriptor_cells_long : descriptor_cells_short;
  const std::size_t across = cells / down;
  for (std::size_t i = 0; i < cells; ++i) {
    const Span rows = span_of_cell(i / across, down, height);
    const Span columns = span_of_cell(i % across, across, width);
    write_cell(sum_cell(rgb, luma, width, rows, columns), row + i * descriptor_channels);
  }
}

}  // namespace

void describe(const std::uint8_t* frames, std::size_t n, std::size_t height, std::size_t width,
              float* rows) {
  PaddedLuma luma(height, width);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* rgb = frames + i * height * width * 3;
    luma.fill(rgb);
    describe_frame(rgb, luma, height, width, rows + i * descriptor_dimension);
  }
}

}  // namespace action100m

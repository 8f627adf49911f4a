#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace action100m {

// The position of a crop in a resized frame.
struct Crop {
  std::size_t height, width;  // of the resized frame
  std::size_t top, left;
  std::size_t size;  // of the square
};

// The central square of a frame that is resized to a shorter side of `short_side` (0: not resized),
// with the longer side rounded down. Throws std::invalid_argument if the square does not fit.
Crop centre_crop(std::size_t height, std::size_t width, std::size_t short_side, std::size_t size);

// Consecutive outputs along one axis, each a weighted sum of neighbouring inputs.
struct AxisFilter {
  // Weights sum to 1 << kShift, up to rounding. As in Pillow: 32 bits, less 8 for the pixel and 2
  // for filters whose sums overshoot.
  static constexpr unsigned kShift = 22;

  std::size_t taps;                  // weights per output, with zeros at the end if not all needed
  std::vector<std::uint32_t> first;  // (outputs,) the first input that an output reads
  std::vector<std::uint32_t> weights;  // (outputs, taps)
};

// The triangle filter that resizes `in` pixels to `out`, widened by the scale if it shrinks them
// (antialiasing), for the outputs begin … begin + count - 1. The weights are Pillow's, rounded as
// Pillow rounds them for 8-bit images.
AxisFilter triangle_filter(std::size_t in, std::size_t out, std::size_t begin, std::size_t count);

// (value / 255 - mean) / std as one fused multiply-add, value * scale + offset.
struct Normalisation {
  std::array<float, 3> scale, offset;

  Normalisation(const std::array<double, 3>& mean, const std::array<double, 3>& std);
};

// Resizes, crops and normalises `n` frames (n, height, width, 3) RGB to `out` (n, 3, size, size).
//
// The resized pixels are integers, bit for bit those of Pillow's bilinear filter: first along the
// rows, rounded to 8 bits, then along the columns, rounded again. (Pillow 13 swaps the two if the
// height shrinks much more than the width, which does not happen if the aspect ratio is kept.)
// Every machine, and the CUDA kernel, gets the same bits.
void preprocess(const std::uint8_t* frames, std::size_t n, std::size_t height, std::size_t width,
                const Crop& crop, const Normalisation& normalisation, float* out);

}  // namespace action100m

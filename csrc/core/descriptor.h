#pragma once
#include <cstddef>
#include <cstdint>

namespace action100m {

// 8 x 12 cells are nearly square, whether frames are 4:3 or 16:9.
inline constexpr std::size_t kDescriptorCellsShort = 8;  // along a frame's shorter side
inline constexpr std::size_t kDescriptorCellsLong = 12;
inline constexpr std::size_t kDescriptorCells = kDescriptorCellsShort * kDescriptorCellsLong;
inline constexpr std::size_t kDescriptorChannels = 7;
inline constexpr std::size_t kDescriptorDimension = kDescriptorCells * kDescriptorChannels;

// Describes each of `n` frames, `frames` (n, height, width, 3) RGB, by `rows` (n, dimension).
//
// For each cell of a grid: the directions of its edges (dark to bright: right, left, down, up;
// square roots of shares) and its mean colour (luma, red-blue, green-magenta). Sums are integers,
// and the float steps are single IEEE operations, so every machine gets the same bits.
// Each frame is described on its own: motion between frames was tried and found no further cuts.
//
// Height and width must be at least 1; if a side has fewer pixels than cells, cells share pixels.
void describe(const std::uint8_t* frames, std::size_t n, std::size_t height, std::size_t width,
              float* rows);

}  // namespace action100m

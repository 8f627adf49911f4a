#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/element.h"

namespace action100m::cuda {

// Queues on `stream` (a cudaStream_t) of `device`: writes the means over space of tokens (rows,
// places, dimension), a row per tubelet, to out (rows, dimension) float32. The order of summation
// is fixed, so the same input gives the same bits. Every token must be aligned to 16 bytes.
void pool(int device, const void* tokens, Element type, std::size_t rows, std::size_t places,
          std::size_t dimension, float* out, void* stream);

// Queues on `stream` of `device`: adds windows, pooled (windows, tubelets, dimension), to
// sums (frames, dimension), each window linearly interpolated from its tubelets to its
// tubelets * tubelet frames (half-pixel centres), the first of which is starts[window].
// A frame's windows are added in the order given, without atomics, so results are reproducible.
void add_windows(int device, const float* pooled, const std::vector<std::int64_t>& starts,
                 std::size_t tubelets, std::size_t tubelet, std::size_t dimension, float* sums,
                 void* stream);

}  // namespace action100m::cuda

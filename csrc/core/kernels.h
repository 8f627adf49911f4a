#pragma once
#include <cstddef>
#include <vector>

namespace action100m {

// One cluster as the arithmetic sees it: a frame as it was given, or the float64 sum of its frames.
struct Operand {
  const void* values;
  double count;
  bool is_sum;

  double* sum() const { return static_cast<double*>(const_cast<void*>(values)); }
};

struct NeighbourCosts {
  double left, right;
};

// The row arithmetic for frames of one type. Every path adds up in the same order: eight lanes,
// then one fixed tree. So all give the same bits.
template <class Scalar>
struct Kernels {
  // Ward cost of each of the `pairs` neighbouring pairs among `pairs` + 1 frames.
  void (*price)(const Scalar* frames, std::size_t pairs, std::size_t d, double* costs);

  // Adds up `a` and `b` (`sum` may be the row of either) and prices the sum against the clusters
  // beside it, in one pass over the four rows.
  NeighbourCosts (*merge)(const Operand& left, const Operand& a, const Operand& b,
                          const Operand& right, std::size_t d, double* sum);
};

enum class SimdPath { scalar, avx2, avx512 };

// The paths that this processor can run, slowest first.
std::vector<SimdPath> simd_paths();

template <class Scalar>
Kernels<Scalar> kernels(SimdPath path);

// Of one path: call these only where the processor can run them.
template <class Scalar, SimdPath path>
Kernels<Scalar> path_kernels();

}  // namespace action100m

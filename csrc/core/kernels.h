#pragma once
#include <cstddef>
#include <vector>

namespace action100m {

// One cluster in the row arithmetic: an input frame, or the float64 sum of its frames.
struct Operand {
  const void* values;
  double count;
  bool is_sum;

  double* sum() const { return static_cast<double*>(const_cast<void*>(values)); }
};

struct NeighbourCosts {
  double left, right;
};

// The row arithmetic for frames of one type. Every path sums in the same order (eight lanes, then
// one fixed tree), so all paths give the same bits.
template <class Scalar>
struct Kernels {
  // Ward cost of each of the `pairs` neighbouring pairs among `pairs` + 1 frames.
  void (*pair_costs)(const Scalar* frames, std::size_t pairs, std::size_t d, double* costs);

  // Adds `a` and `b` into `sum` (which may be the row of either) and computes the cost of merging
  // the sum with each neighbouring cluster, in one pass over the four rows.
  NeighbourCosts (*merge)(const Operand& left, const Operand& a, const Operand& b,
                          const Operand& right, std::size_t d, double* sum);
};

enum class SimdPath { scalar, avx2, avx512 };

// The paths that this processor supports, slowest first.
std::vector<SimdPath> simd_paths();

template <class Scalar>
Kernels<Scalar> kernels(SimdPath path);

// The kernels of one path; call them only if the processor supports it.
template <class Scalar, SimdPath kPath>
Kernels<Scalar> path_kernels();

}  // namespace action100m

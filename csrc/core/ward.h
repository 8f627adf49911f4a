#pragma once
#include <cstddef>
#include <cstdint>

#include "core/kernels.h"

namespace action100m {

// Exact Ward linkage under a chain constraint: only temporal neighbours may merge (Ward 1963).
//
// `rows` is (n, d), row-major. Writes n-1 merges: `children` (n-1, 2) and `heights` (n-1), numbered
// and ordered as in scikit-learn's AgglomerativeClustering: merge i creates node n+i.
// Equal costs are ordered by (newer id, older id). Neither `path` nor `block_length`, the frames
// in the shortest blocks that are merged on their own, changes the result.
//
// Throws std::domain_error if a row contains NaN or infinity, or values whose squares overflow.
template <class Scalar>
void ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children, double* heights,
          SimdPath path, std::size_t block_length);

// The number of frames of d dimensions that fit into the cache of one core.
std::size_t default_block_length(std::size_t d);

}  // namespace action100m

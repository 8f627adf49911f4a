#pragma once
#include <cstddef>
#include <cstdint>

namespace action100m {

// Exact Ward linkage under a chain constraint: only temporal neighbours may merge (Ward 1963).
//
// `rows` is (n, d), row-major. Writes n-1 merges: `children` (n-1, 2) and `heights` (n-1), numbered
// and ordered as scikit-learn's AgglomerativeClustering numbers them: merge i makes node n+i.
// Equal costs are ordered by (newer id, older id).
template <class Scalar>
void ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children,
          double* heights);

}  // namespace action100m

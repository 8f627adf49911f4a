#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace action100m {

// Segments in published order: level by level, by start within a level. The root's parent is -1.
struct Tree {
  std::vector<double> start, end;  // seconds
  std::vector<std::int64_t> parent;
  std::vector<std::int64_t> level;
  std::size_t absorbed = 0;  // short segments that were merged into a neighbour
};

// Finds the first frame of each of the 2n-1 nodes of a dendrogram over n frames. Throws
// invalid_argument unless every merge joins two temporal neighbours that exist and are not merged.
void first_frames(const std::int64_t* children, std::size_t n, std::int64_t* first);

// Cuts a dendrogram over n sampled frames, top down. A split is kept only if both sides last at
// least `min_duration`; else the node is a leaf. If that leaf would be longer than `absorb_above`,
// the short side is absorbed and the longer side's own split is used instead.
// `edges` contains n+1 increasing times: frame i lasts from edges[i] to edges[i+1].
Tree cut(const std::int64_t* children, std::size_t n, const double* edges, double min_duration,
         double absorb_above);

}  // namespace action100m

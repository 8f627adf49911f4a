#include "core/ward.h"

#include <cmath>
#include <queue>
#include <tuple>
#include <vector>

namespace action100m {
namespace {

using Id = std::int64_t;
using Candidate = std::tuple<double, Id, Id>;  // cost, newer id, older id

struct Cluster {
  std::vector<double> sum;
  double count = 1;
  Id left = -1, right = -1;
};

double merge_cost(const Cluster& a, const Cluster& b) {
  double squares = 0;
  for (std::size_t k = 0; k < a.sum.size(); ++k) {
    const double difference = b.count * a.sum[k] - a.count * b.sum[k];
    squares += difference * difference;
  }
  return squares / (a.count * b.count * (a.count + b.count));
}

}  // namespace

template <class Scalar>
void ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children,
          double* heights) {
  std::vector<Cluster> clusters(2 * n - 1);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  for (std::size_t i = 0; i < n; ++i) {
    clusters[i].sum.assign(rows + i * d, rows + (i + 1) * d);
    clusters[i].left = static_cast<Id>(i) - 1;
    clusters[i].right = i + 1 < n ? static_cast<Id>(i) + 1 : -1;
    if (i > 0) heap.emplace(merge_cost(clusters[i - 1], clusters[i]), i, i - 1);
  }
  std::vector<bool> alive(2 * n - 1, true);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    while (!alive[std::get<1>(heap.top())] || !alive[std::get<2>(heap.top())]) heap.pop();
    const auto [cost, newer, older] = heap.top();
    heap.pop();
    const Id id = static_cast<Id>(n + i);
    const bool newer_is_left = clusters[newer].right == older;
    Cluster& left = clusters[newer_is_left ? newer : older];
    Cluster& right = clusters[newer_is_left ? older : newer];
    Cluster& merged = clusters[id];
    merged.sum = std::move(left.sum);
    for (std::size_t k = 0; k < d; ++k) merged.sum[k] += right.sum[k];
    merged.count = left.count + right.count;
    merged.left = left.left;
    merged.right = right.right;
    alive[newer] = alive[older] = false;
    for (const Id neighbour : {merged.left, merged.right}) {
      if (neighbour < 0) continue;
      (neighbour == merged.left ? clusters[neighbour].right : clusters[neighbour].left) = id;
      heap.emplace(merge_cost(merged, clusters[neighbour]), id, neighbour);
    }
    children[2 * i] = older;
    children[2 * i + 1] = newer;
    heights[i] = std::sqrt(2 * cost);
  }
}

template void ward(const float*, std::size_t, std::size_t, std::int64_t*, double*);
template void ward(const double*, std::size_t, std::size_t, std::int64_t*, double*);

}  // namespace action100m

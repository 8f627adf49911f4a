#include <numeric>
#include <vector>

#include "core/cut.h"
#include "tests/check.h"

namespace {

using Ids = std::vector<std::int64_t>;

// Each frame joins the cluster of all previous frames.
Ids staircase(std::size_t n) {
  Ids children{0, 1};
  for (std::size_t i = 2; i < n; ++i) {
    children.insert(children.end(),
                    {static_cast<std::int64_t>(i), static_cast<std::int64_t>(n + i - 2)});
  }
  return children;
}

std::vector<double> seconds(std::size_t n) {
  std::vector<double> edges(n + 1);
  std::iota(edges.begin(), edges.end(), 0.0);
  return edges;
}

void one_frame_is_one_segment() {
  const double edges[] = {0, 0.25};
  const action100m::Tree tree = action100m::cut(nullptr, 1, edges, 0.5, 60);
  CHECK(tree.start == std::vector{0.0} && tree.end == std::vector{0.25});
  CHECK(tree.parent == Ids{-1} && tree.level == Ids{0});
}

void segments_come_level_by_level() {
  const Ids children{0, 1, 2, 3, 4, 5};
  const action100m::Tree tree = action100m::cut(children.data(), 4, seconds(4).data(), 1, 60);
  CHECK((tree.start == std::vector<double>{0, 0, 2, 0, 1, 2, 3}));
  CHECK((tree.end == std::vector<double>{4, 2, 4, 1, 2, 3, 4}));
  CHECK((tree.parent == Ids{-1, 0, 0, 1, 1, 2, 2}));
  CHECK((tree.level == Ids{0, 1, 1, 2, 2, 2, 2}));
}

void a_short_side_makes_a_leaf_unless_the_leaf_is_too_long() {
  const Ids stray{0, 1, 2, 3, 5, 6, 4, 7};  // the last frame, alone against all others
  const double edges[] = {0, 1, 2, 3, 4, 4.1};
  CHECK(action100m::cut(stray.data(), 5, edges, 0.5, 60).start.size() == 1);
  const action100m::Tree tree = action100m::cut(stray.data(), 5, edges, 0.5, 4);
  CHECK(tree.absorbed == 1);
  CHECK((tree.end == std::vector<double>{4.1, 2, 4.1, 1, 2, 3, 4.1}));
}

void deep_chains_are_no_deeper_than_the_stack() {
  const std::size_t n = 200000;
  const Ids children = staircase(n);
  const action100m::Tree tree = action100m::cut(children.data(), n, seconds(n).data(), 0.5, 60);
  CHECK(tree.start.size() == 2 * n - 1);
  CHECK(tree.level.back() == static_cast<std::int64_t>(n) - 1);
  const action100m::Tree pairs = action100m::cut(children.data(), n, seconds(n).data(), 1.5, 60);
  CHECK(pairs.absorbed == (n - 60) / 2);
  CHECK(pairs.start.size() == 2 * pairs.absorbed + 1);
}

}  // namespace

int main() {
  one_frame_is_one_segment();
  segments_come_level_by_level();
  a_short_side_makes_a_leaf_unless_the_leaf_is_too_long();
  deep_chains_are_no_deeper_than_the_stack();
}

#include "core/cut.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace action100m {
namespace {

using Id = std::int64_t;
constexpr Id kMerged = -1;

// A dendrogram node in the tree; absorbed neighbours extend its frames.
struct Segment {
  Id node;
  std::size_t first, last;  // frames [first, last)
};

class Cutter {
 public:
  Cutter(const Id* children, std::size_t n, const double* edges, double min_duration,
         double absorb_above)
      : children_(children),
        n_(n),
        edges_(edges),
        min_duration_(min_duration),
        absorb_above_(absorb_above),
        first_frame_(2 * n - 1) {
    first_frames(children, n, first_frame_.data());
  }

  Tree tree() {
    std::vector<Segment> queue{{static_cast<Id>(2 * n_ - 2), 0, n_}};
    append(queue[0], -1, 0);
    for (std::size_t i = 0; i < queue.size(); ++i) {
      const auto halves = split(queue[i]);
      if (!halves) continue;
      for (const Segment& half : {halves->first, halves->second}) {
        queue.push_back(half);
        append(half, static_cast<Id>(i), tree_.level[i] + 1);
      }
    }
    return std::move(tree_);
  }

 private:
  double duration(const Segment& segment) const {
    return edges_[segment.last] - edges_[segment.first];
  }

  void append(const Segment& segment, Id parent, Id level) {
    tree_.start.push_back(edges_[segment.first]);
    tree_.end.push_back(edges_[segment.last]);
    tree_.parent.push_back(parent);
    tree_.level.push_back(level);
  }

  std::pair<Segment, Segment> halves_of(const Segment& segment) const {
    Id left = children_[2 * (segment.node - static_cast<Id>(n_))];
    Id right = children_[2 * (segment.node - static_cast<Id>(n_)) + 1];
    if (first_frame_[left] > first_frame_[right]) std::swap(left, right);
    const auto boundary = static_cast<std::size_t>(first_frame_[right]);
    return {{left, segment.first, boundary}, {right, boundary, segment.last}};
  }

  std::optional<std::pair<Segment, Segment>> split(Segment segment) {
    std::size_t absorbed = 0;
    while (segment.node >= static_cast<Id>(n_)) {
      const auto [left, right] = halves_of(segment);
      const bool left_lasts = duration(left) >= min_duration_;
      const bool right_lasts = duration(right) >= min_duration_;
      if (left_lasts && right_lasts) {
        tree_.absorbed += absorbed;
        return {{left, right}};
      }
      if (duration(segment) <= absorb_above_) break;
      segment.node = duration(left) > duration(right) ? left.node : right.node;
      ++absorbed;
    }
    return std::nullopt;
  }

  const Id* children_;
  std::size_t n_;
  const double* edges_;
  double min_duration_;
  double absorb_above_;
  std::vector<Id> first_frame_;  // of each dendrogram node
  Tree tree_;
};

}  // namespace

void first_frames(const std::int64_t* children, std::size_t n, std::int64_t* first) {
  std::vector<Id> last(2 * n - 1, kMerged);
  for (std::size_t i = 0; i < n; ++i) first[i] = last[i] = static_cast<Id>(i);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const Id node = static_cast<Id>(n + i);
    Id left = children[2 * i], right = children[2 * i + 1];
    for (const Id child : {left, right}) {
      if (child < 0 || child >= node || last[child] == kMerged) {
        throw std::invalid_argument("Merge " + std::to_string(i) + " joins node " +
                                    std::to_string(child) +
                                    ", which does not exist yet or is already merged.");
      }
    }
    if (first[left] > first[right]) std::swap(left, right);
    if (last[left] + 1 != first[right]) {
      throw std::invalid_argument("Merge " + std::to_string(i) + " joins nodes " +
                                  std::to_string(left) + " and " + std::to_string(right) +
                                  ", which are not neighbours in time.");
    }
    first[node] = first[left];
    last[node] = last[right];
    last[left] = last[right] = kMerged;
  }
}

Tree cut(const std::int64_t* children, std::size_t n, const double* edges, double min_duration,
         double absorb_above) {
  return Cutter(children, n, edges, min_duration, absorb_above).tree();
}

}  // namespace action100m

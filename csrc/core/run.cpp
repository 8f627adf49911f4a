#include "core/run.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace action100m {

Run::Run(const Chain& chain, std::size_t first, std::size_t last, Id next_id)
    : begin(first),
      end(last),
      first_(first),
      next_id_(next_id),
      clusters_(chain.clusters.begin() + first, chain.clusters.begin() + last),
      costs_(chain.costs.begin() + first, chain.costs.begin() + last),
      previous_(last - first),
      next_(last - first) {
  costs_[0] = kNever;
  std::iota(previous_.begin() + 1, previous_.end(), 0);
  std::iota(next_.begin(), next_.end(), 1);
  merges_.reserve(last - first);
}

// The order of merges: by cost, then by the newer id, then by the older.
bool Run::before(std::size_t i, std::size_t j) const {
  if (costs_[i] != costs_[j]) [[likely]]
    return costs_[i] < costs_[j];
  const auto ids = [&](std::size_t border) {
    const Id a = clusters_[border].id, b = clusters_[previous_[border]].id;
    return std::pair(std::max(a, b), std::min(a, b));
  };
  return costs_[i] != kNever && ids(i) < ids(j);
}

template <class Scalar>
void Run::merge_below(double limit, const Kernels<Scalar>& kernels, Arena& arena, std::size_t d,
                      bool consuming) {
  const auto before = [this](std::size_t i, std::size_t j) { return this->before(i, j); };
  tournament_.start(costs_.size(), before);
  while (costs_[tournament_.winner()] < limit) {
    const std::size_t border = tournament_.winner(), left = previous_[border];
    merge_at(border, kernels, arena, d, consuming);
    tournament_.update(border, before);
    if (left > 0) tournament_.update(left, before);
    if (next_[left] < next_.size()) tournament_.update(next_[left], before);
  }
}

template <class Scalar>
void Run::merge_at(std::size_t border, const Kernels<Scalar>& kernels, Arena& arena, std::size_t d,
                   bool consuming) {
  const std::size_t start = previous_[border], after = next_[border];
  const bool has_left = start > 0, has_right = after < next_.size();
  Operand &a = clusters_[start].row, &b = clusters_[border].row;
  const auto spare = [&](const Operand& row, std::size_t slot) {
    const bool mine = row.is_sum && (consuming || next_[slot] > slot + 1);
    return mine ? static_cast<double*>(const_cast<void*>(row.values)) : nullptr;
  };
  double* const of_a = spare(a, start);
  double* const of_b = spare(b, border);
  double* const sum = of_a ? of_a : of_b ? of_b : arena.take();
  const Operand& left = has_left ? clusters_[previous_[start]].row : a;
  const Operand& right = has_right ? clusters_[after].row : b;
  const NeighbourCosts costs = kernels.merge(left, a, b, right, d, sum);
  if (of_a && of_b) arena.give_back(of_b);
  merges_.push_back({costs_[border], static_cast<std::uint32_t>(first_ + start),
                     static_cast<std::uint32_t>(first_ + border)});
  clusters_[start] = {{sum, a.count + b.count, true}, next_id_++};
  next_[start] = static_cast<std::uint32_t>(after);
  costs_[border] = kNever;
  if (has_left) costs_[start] = costs.left;
  if (has_right) {
    previous_[after] = static_cast<std::uint32_t>(start);
    costs_[after] = costs.right;
  }
  if ((has_left && !(costs.left < kNever)) || (has_right && !(costs.right < kNever))) {
    throw std::overflow_error("A Ward cost overflows float64.");
  }
}

bool Run::is_border(std::size_t slot) const { return slot == first_ || cost(slot) < kNever; }

std::vector<std::uint32_t> Run::borders_merged(std::size_t from, std::size_t to) const {
  std::vector<std::uint32_t> borders;
  for (const Merge& merge : merges_) {
    if (from < merge.right && merge.right < to) borders.push_back(merge.right);
  }
  return borders;
}

bool Run::same_cluster(const Run& other, std::size_t slot) const {
  const std::size_t after = next(slot);
  return after == other.next(slot) &&
         borders_merged(slot, after) == other.borders_merged(slot, after);
}

std::optional<std::size_t> Run::agreement(const Run& later) const {
  for (std::size_t slot = std::max(begin + 1, later.first_); slot < last(); ++slot) {
    if (is_border(slot) && later.is_border(slot) && same_cluster(later, slot)) return slot;
  }
  return std::nullopt;
}

std::size_t Run::border_before_end(std::size_t overlap) const {
  std::size_t slot = last() - 1, clusters = 0;
  for (; slot > first_; --slot) {
    if (!is_border(slot)) continue;
    if (++clusters > 1 && slot + overlap <= last()) break;
  }
  return slot;
}

void Run::discard(std::size_t from, std::size_t to, Arena& arena) const {
  for (std::size_t slot = from; slot < to; slot = next(slot)) {
    if (next(slot) == slot + 1) continue;
    arena.give_back(static_cast<double*>(const_cast<void*>(row(slot).values)));
  }
}

template void Run::merge_below(double, const Kernels<float>&, Arena&, std::size_t, bool);
template void Run::merge_below(double, const Kernels<double>&, Arena&, std::size_t, bool);

}  // namespace action100m

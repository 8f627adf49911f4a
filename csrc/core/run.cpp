#include "core/run.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace action100m {

template <class Scalar>
Run::Run(const Workshop<Scalar>& shop, const std::vector<double>& costs, std::size_t first,
         std::size_t last)
    : begin(first),
      end(last),
      first_(first),
      next_id_(static_cast<Id>(shop.n)),
      costs_(costs.begin() + static_cast<std::ptrdiff_t>(first),
             costs.begin() + static_cast<std::ptrdiff_t>(last)),
      previous_(last - first),
      next_(last - first) {
  costs_[0] = kNever;
  std::iota(previous_.begin() + 1, previous_.end(), 0);
  std::iota(next_.begin(), next_.end(), 1);
  clusters_.reserve(last - first);
  for (std::size_t i = first; i < last; ++i) {
    clusters_.push_back({{shop.rows + i * shop.d, 1, false}, static_cast<Id>(i)});
  }
  merges_.reserve(last - first);
}

// Brings the parts' merges into one order: the parts play for each next one.
void Run::adopt_order(const std::vector<Run>& parts) {
  std::vector<const Merge*> heads;
  const auto cost_of_head = [&](std::size_t i) {
    const Run& part = parts[i];
    const Merge* const end = part.merges_.data() + part.merges_.size();
    heads[i] = std::find_if(heads[i], end, [&](const Merge& merge) {
      return part.begin < merge.right && merge.right < part.end;
    });
    return heads[i] == end ? kNever : heads[i]->cost;
  };
  const auto precedes = [&](std::size_t i, std::size_t j) {
    return ids(heads[i]->left, heads[i]->right) < ids(heads[j]->left, heads[j]->right);
  };
  std::vector<double> costs;
  for (const Run& part : parts) {
    heads.push_back(part.merges_.data());
    costs.push_back(cost_of_head(costs.size()));
  }
  Tournament tournament(costs, precedes);
  while (tournament.cost() < kNever) {
    const std::size_t winner = tournament.winner();
    const Merge& merge = *heads[winner]++;
    merges_.push_back(merge);
    clusters_[merge.left - first_].id = next_id_++;
    costs_[merge.right - first_] = kNever;
    tournament.update(winner, cost_of_head(winner), precedes);
  }
}

void Run::adopt(const std::vector<Run>& parts, Arena& arena) {
  adopt_order(parts);
  std::size_t previous = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Run& part = parts[i];
    part.discard(part.first_, part.begin, arena);
    part.discard(part.end, part.last(), arena);
    for (std::size_t frame = part.begin; frame < part.end; frame = part.next(frame)) {
      const Run& judge = frame == part.begin && i > 0 ? parts[i - 1] : part;
      const std::size_t slot = frame - first_;
      clusters_[slot].row = part.clusters_[frame - part.first_].row;
      costs_[slot] = judge.costs_[frame - judge.first_];
      next_[slot] = static_cast<std::uint32_t>(part.next(frame) - first_);
      previous_[slot] = static_cast<std::uint32_t>(previous);
      previous = slot;
    }
  }
}

// Merges of one cost are ordered by the newer id, then by the older.
std::pair<Id, Id> Run::ids(std::size_t left, std::size_t right) const {
  const Id a = clusters_[left - first_].id, b = clusters_[right - first_].id;
  return {std::max(a, b), std::min(a, b)};
}

template <class Scalar>
void Run::merge_below(double limit, Workshop<Scalar>& shop) {
  const auto precedes = [this](std::size_t i, std::size_t j) {
    return ids(first_ + previous_[i], first_ + i) < ids(first_ + previous_[j], first_ + j);
  };
  Tournament tournament(costs_, precedes);
  while (tournament.cost() < limit) {
    const std::size_t border = tournament.winner(), left = previous_[border], right = next_[border];
    merge_at(border, shop);
    if (left > 0) tournament.update_below(border, left, costs_[left], precedes);
    if (right < next_.size()) tournament.update_below(border, right, costs_[right], precedes);
    tournament.update(border, kNever, precedes);
  }
}

template <class Scalar>
void Run::merge_at(std::size_t border, Workshop<Scalar>& shop) {
  const std::size_t start = previous_[border], after = next_[border];
  const bool has_left = start > 0, has_right = after < next_.size();
  const Operand a = clusters_[start].row, b = clusters_[border].row;
  const bool reuse_a = a.is_sum && !shop.arena.is_shared(a.sum());
  const bool reuse_b = !reuse_a && b.is_sum && !shop.arena.is_shared(b.sum());
  double* const sum = reuse_a ? a.sum() : reuse_b ? b.sum() : shop.arena.take();
  const Operand& left = has_left ? clusters_[previous_[start]].row : a;
  const Operand& right = has_right ? clusters_[after].row : b;
  const NeighbourCosts costs = shop.kernels.merge(left, a, b, right, shop.d, sum);
  if (a.is_sum && !reuse_a) shop.arena.give_back(a.sum());
  if (b.is_sum && !reuse_b) shop.arena.give_back(b.sum());
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

bool Run::is_border(std::size_t frame) const {
  return frame == first_ || costs_[frame - first_] < kNever;
}

std::vector<std::uint32_t> Run::borders_merged(std::size_t from, std::size_t to) const {
  std::vector<std::uint32_t> borders;
  for (const Merge& merge : merges_) {
    if (from < merge.right && merge.right < to) borders.push_back(merge.right);
  }
  return borders;
}

bool Run::same_cluster(const Run& other, std::size_t frame) const {
  const std::size_t after = next(frame);
  return after == other.next(frame) &&
         borders_merged(frame, after) == other.borders_merged(frame, after);
}

std::optional<std::size_t> Run::agreement(const Run& later) const {
  for (std::size_t frame = std::max(begin + 1, later.first_); frame < last(); ++frame) {
    if (is_border(frame) && later.is_border(frame) && same_cluster(later, frame)) return frame;
  }
  return std::nullopt;
}

std::size_t Run::border_before_end(std::size_t overlap) const {
  std::size_t frame = last() - 1, clusters = 0;
  for (; frame > first_; --frame) {
    if (!is_border(frame)) continue;
    if (++clusters > 1 && frame + overlap <= last()) break;
  }
  return frame;
}

Run Run::tail(std::size_t border, Arena& arena) const {
  const auto cut = static_cast<std::ptrdiff_t>(border - first_);
  Run tail(*this);
  tail.begin = tail.first_ = border;
  tail.clusters_.erase(tail.clusters_.begin(), tail.clusters_.begin() + cut);
  tail.costs_.erase(tail.costs_.begin(), tail.costs_.begin() + cut);
  tail.previous_.erase(tail.previous_.begin(), tail.previous_.begin() + cut);
  tail.next_.erase(tail.next_.begin(), tail.next_.begin() + cut);
  for (std::uint32_t& next : tail.next_) next -= static_cast<std::uint32_t>(cut);
  tail.costs_[0] = kNever;
  std::erase_if(tail.merges_, [&](const Merge& merge) { return merge.left < border; });
  for (std::size_t frame = border; frame < last(); frame = next(frame)) {
    const Operand& row = clusters_[frame - first_].row;
    if (row.is_sum) arena.share(row.sum());
  }
  return tail;
}

void Run::discard(std::size_t from, std::size_t to, Arena& arena) const {
  for (std::size_t frame = from; frame < to; frame = next(frame)) {
    const Operand& row = clusters_[frame - first_].row;
    if (row.is_sum) arena.give_back(row.sum());
  }
}

template Run::Run(const Workshop<float>&, const std::vector<double>&, std::size_t, std::size_t);
template Run::Run(const Workshop<double>&, const std::vector<double>&, std::size_t, std::size_t);
template void Run::merge_below(double, Workshop<float>&);
template void Run::merge_below(double, Workshop<double>&);

}  // namespace action100m

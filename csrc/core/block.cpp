#include "core/block.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "core/tournament.h"

namespace action100m {

namespace {

// Merges of equal cost are ordered by the newer id, then by the older one.
std::pair<Id, Id> newer_first(Id a, Id b) { return {std::max(a, b), std::min(a, b)}; }

}  // namespace

Block::Chain::Chain(std::size_t length) : previous(length), next(length) {
  std::iota(previous.begin() + 1, previous.end(), 0);
  std::iota(next.begin(), next.end(), 1);
}

template <class Scalar>
Block::Block(const Context<Scalar>& context, const std::vector<double>& costs, std::size_t first,
             std::size_t last)
    : owned_begin(first),
      owned_end(last),
      last_(last),
      costs_(costs.begin() + static_cast<std::ptrdiff_t>(first),
             costs.begin() + static_cast<std::ptrdiff_t>(last)) {
  costs_[0] = kNever;
  clusters_.reserve(last - first);
  for (std::size_t i = first; i < last; ++i) {
    clusters_.push_back({{context.rows + i * context.d, 1, false}, static_cast<Id>(i), i});
  }
  merges_.reserve(last - first);
}

Block::Block(std::vector<Block> parts, Arena& arena)
    : owned_begin(parts.front().owned_begin), owned_end(parts.back().owned_end), last_(owned_end) {
  double cost = kNever;  // of merging across the border of two parts, known to the earlier part
  for (const Block& part : parts) {
    const std::size_t from = part.slot_at(part.owned_begin), to = part.slot_at(part.owned_end);
    part.release_sums(0, from, arena);
    part.release_sums(to, part.clusters_.size(), arena);
    const std::size_t border = clusters_.size();
    clusters_.insert(clusters_.end(), &part.clusters_[from], &part.clusters_[0] + to);
    costs_.insert(costs_.end(), &part.costs_[from], &part.costs_[0] + to);
    costs_[border] = std::exchange(cost, to < part.costs_.size() ? part.costs_[to] : kNever);
  }
  interleave_merges(parts);
}

// Brings the parts' merges into one order: a tournament of the parts decides each next merge.
void Block::interleave_merges(std::vector<Block>& parts) {
  const std::size_t first = owned_begin;
  merges_.reserve(last_ - first);
  std::vector<Id> ids(last_ - first);  // of the cluster that starts at each frame
  std::iota(ids.begin(), ids.end(), static_cast<Id>(first));
  std::vector<const Merge*> heads;
  std::vector<double> costs;
  for (Block& part : parts) {
    std::erase_if(part.merges_, [&](const Merge& merge) { return !part.owns(merge); });
    part.merges_.push_back({kNever, 0, 0});  // a sentinel, which never wins
    heads.push_back(part.merges_.data());
    costs.push_back(heads.back()->cost);
  }
  const auto ids_of_head = [&](std::size_t i) {
    return newer_first(ids[heads[i]->left - first], ids[heads[i]->right - first]);
  };
  const auto precedes = [&](std::size_t i, std::size_t j) {
    return ids_of_head(i) < ids_of_head(j);
  };
  Tournament tournament(costs, precedes);
  while (tournament.cost() < kNever) {
    const std::size_t winner = tournament.winner();
    const Merge& merge = *heads[winner]++;
    ids[merge.left - first] = next_id();
    merges_.push_back(merge);
    tournament.update(winner, heads[winner]->cost, precedes);
  }
  for (Cluster& cluster : clusters_) cluster.id = ids[cluster.first - first];
}

template <class Scalar>
void Block::merge_below(double limit, Context<Scalar>& context) {
  Chain chain(clusters_.size());
  const auto ids_at = [&](std::size_t slot) {
    return newer_first(clusters_[chain.previous[slot]].id, clusters_[slot].id);
  };
  const auto precedes = [&](std::size_t i, std::size_t j) { return ids_at(i) < ids_at(j); };
  Tournament tournament(costs_, precedes);
  while (tournament.cost() < limit) {
    const std::size_t slot = tournament.winner();
    const std::size_t merged = chain.previous[slot], after = chain.next[slot];
    merge_with_previous(slot, chain, context);
    if (merged > 0) tournament.update_below(slot, merged, costs_[merged], precedes);
    if (after < costs_.size()) tournament.update_below(slot, after, costs_[after], precedes);
    tournament.update(slot, kNever, precedes);
  }
  drop_merged();
}

template <class Scalar>
void Block::merge_with_previous(std::size_t slot, Chain& chain, Context<Scalar>& context) {
  const std::size_t merged = chain.previous[slot], after = chain.next[slot];
  const bool has_left = merged > 0, has_right = after < clusters_.size();
  const Operand a = clusters_[merged].row, b = clusters_[slot].row;
  const bool reuse_a = a.is_sum && !context.arena.is_shared(a.sum());
  const bool reuse_b = !reuse_a && b.is_sum && !context.arena.is_shared(b.sum());
  double* const sum = reuse_a ? a.sum() : reuse_b ? b.sum() : context.arena.take();
  const Operand& left = has_left ? clusters_[chain.previous[merged]].row : a;
  const Operand& right = has_right ? clusters_[after].row : b;
  const NeighbourCosts costs = context.kernels.merge(left, a, b, right, context.d, sum);
  if (a.is_sum && !reuse_a) context.arena.give_back(a.sum());
  if (b.is_sum && !reuse_b) context.arena.give_back(b.sum());
  clusters_[merged].row = {sum, a.count + b.count, true};
  clusters_[merged].id = next_id();
  merges_.push_back({costs_[slot], static_cast<std::uint32_t>(clusters_[merged].first),
                     static_cast<std::uint32_t>(clusters_[slot].first)});
  chain.next[merged] = static_cast<std::uint32_t>(after);
  costs_[slot] = kNever;
  if (has_left) costs_[merged] = costs.left;
  if (has_right) {
    chain.previous[after] = static_cast<std::uint32_t>(merged);
    costs_[after] = costs.right;
  }
  if ((has_left && !(costs.left < kNever)) || (has_right && !(costs.right < kNever))) {
    throw std::overflow_error("A Ward cost overflows float64.");
  }
}

// Removes the clusters that were merged into others.
void Block::drop_merged() {
  std::size_t kept = 1;
  for (std::size_t slot = 1; slot < clusters_.size(); ++slot) {
    if (costs_[slot] == kNever) continue;
    clusters_[kept] = clusters_[slot];
    costs_[kept++] = costs_[slot];
  }
  clusters_.erase(clusters_.begin() + static_cast<std::ptrdiff_t>(kept), clusters_.end());
  costs_.resize(kept);
}

// The first cluster that starts at `frame` or later.
std::size_t Block::slot_at(std::size_t frame) const {
  const auto found =
      std::lower_bound(clusters_.begin(), clusters_.end(), frame,
                       [](const Cluster& cluster, std::size_t at) { return cluster.first < at; });
  return static_cast<std::size_t>(found - clusters_.begin());
}

std::size_t Block::end_of(std::size_t slot) const {
  return slot + 1 < clusters_.size() ? clusters_[slot + 1].first : last_;
}

std::vector<std::uint32_t> Block::borders_merged(std::size_t from, std::size_t to) const {
  std::vector<std::uint32_t> borders;
  for (const Merge& merge : merges_) {
    if (from < merge.right && merge.right < to) borders.push_back(merge.right);
  }
  return borders;
}

bool Block::same_cluster(std::size_t slot, const Block& other, std::size_t other_slot) const {
  const std::size_t first = clusters_[slot].first, end = end_of(slot);
  return other_slot < other.clusters_.size() && other.clusters_[other_slot].first == first &&
         other.end_of(other_slot) == end &&
         borders_merged(first, end) == other.borders_merged(first, end);
}

std::optional<std::size_t> Block::border_to_join(const Block& later) const {
  for (std::size_t slot = slot_at(std::max(owned_begin + 1, later.first()));
       slot < clusters_.size(); ++slot) {
    const std::size_t frame = clusters_[slot].first;
    if (same_cluster(slot, later, later.slot_at(frame))) return frame;
  }
  return std::nullopt;
}

std::size_t Block::border_before_end(std::size_t overlap) const {
  const std::size_t beyond = slot_at(last_ - std::min(overlap, last_) + 1);
  const std::size_t second_to_last = std::max<std::size_t>(clusters_.size(), 2) - 2;
  return clusters_[std::min(std::max<std::size_t>(beyond, 1) - 1, second_to_last)].first;
}

Block Block::tail(std::size_t border, Arena& arena) const {
  Block tail(*this);
  tail.owned_begin = border;
  const auto cut = static_cast<std::ptrdiff_t>(slot_at(border));
  tail.clusters_.erase(tail.clusters_.begin(), tail.clusters_.begin() + cut);
  tail.costs_.erase(tail.costs_.begin(), tail.costs_.begin() + cut);
  tail.costs_[0] = kNever;
  std::erase_if(tail.merges_, [&](const Merge& merge) { return merge.left < border; });
  for (const Cluster& cluster : tail.clusters_) {
    if (cluster.row.is_sum) arena.share(cluster.row.sum());
  }
  return tail;
}

void Block::release_sums(std::size_t from, std::size_t to, Arena& arena) const {
  for (std::size_t slot = from; slot < to; ++slot) {
    const Operand& row = clusters_[slot].row;
    if (row.is_sum) arena.give_back(row.sum());
  }
}

template Block::Block(const Context<float>&, const std::vector<double>&, std::size_t, std::size_t);
template Block::Block(const Context<double>&, const std::vector<double>&, std::size_t, std::size_t);
template void Block::merge_below(double, Context<float>&);
template void Block::merge_below(double, Context<double>&);

}  // namespace action100m

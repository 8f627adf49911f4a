#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "core/arena.h"
#include "core/kernels.h"
#include "core/tournament.h"

namespace action100m {

using Id = std::int64_t;
constexpr double kNever = std::numeric_limits<double>::infinity();

struct Cluster {
  Operand row;
  Id id;
};

// What is still to be merged: clusters in time order. Slot i of the chain is cluster i.
struct Chain {
  std::vector<Cluster> clusters;
  std::vector<double> costs;  // of merging cluster i with the one before it; kNever for i = 0
};

// The cluster that starts at slot `left` took in the one that starts at slot `right`.
struct Merge {
  double cost;
  std::uint32_t left, right;
};

// Greedy merging of the slots [first, last) of a chain, as if there were nothing beside them.
class Run {
 public:
  Run(const Chain& chain, std::size_t first, std::size_t last, Id next_id);

  // Merges the cheapest pair again and again while it costs less than `limit`. Leaves the chain's
  // rows alone, unless `consuming`: then they are written to and recycled.
  template <class Scalar>
  void merge_below(double limit, const Kernels<Scalar>& kernels, Arena& arena, std::size_t d,
                   bool consuming);

  // The first slot at which this run and `later`, which overlaps its end, may be joined: both have
  // a border there and made the same cluster after it. Then all that this run did before the border
  // and all that `later` did after it stands: the border held to the end against that very cluster.
  std::optional<std::size_t> agreement(const Run& later) const;

  // The last border with at least `overlap` slots and two clusters after it, else the first slot.
  std::size_t border_before_end(std::size_t overlap) const;

  // Recycles the sums that this run made of slots in [from, to).
  void discard(std::size_t from, std::size_t to, Arena& arena) const;

  std::size_t first() const { return first_; }
  std::size_t last() const { return first_ + next_.size(); }
  std::size_t next(std::size_t slot) const { return first_ + next_[slot - first_]; }
  double cost(std::size_t slot) const { return costs_[slot - first_]; }
  const Operand& row(std::size_t slot) const { return clusters_[slot - first_].row; }
  const std::vector<Merge>& merges() const { return merges_; }

  std::size_t begin = 0, end = 0;  // the slots for which this run has the say

 private:
  template <class Scalar>
  void merge_at(std::size_t border, const Kernels<Scalar>& kernels, Arena& arena, std::size_t d,
                bool consuming);
  bool before(std::size_t i, std::size_t j) const;
  bool is_border(std::size_t slot) const;
  bool same_cluster(const Run& other, std::size_t slot) const;
  std::vector<std::uint32_t> borders_merged(std::size_t from, std::size_t to) const;

  // All indexed by slot - first, and meaningful where a cluster starts.
  std::size_t first_;
  Id next_id_;
  std::vector<Cluster> clusters_;
  std::vector<double> costs_;
  std::vector<std::uint32_t> previous_, next_;
  std::vector<Merge> merges_;
  Tournament tournament_;
};

}  // namespace action100m

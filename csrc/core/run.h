#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/kernels.h"

namespace action100m {

using Id = std::int64_t;
constexpr double kNever = std::numeric_limits<double>::infinity();

// The cluster that starts at frame `left` took in the one that starts at frame `right`.
struct Merge {
  double cost;
  std::uint32_t left, right;
};

// What all runs work with.
template <class Scalar>
struct Workshop {
  const Scalar* rows;  // (n, d)
  std::size_t n, d;
  Kernels<Scalar> kernels;
  Arena arena;
};

// Greedy merging of the frames [first, last), as if there were nothing beside them.
//
// A border is the first frame of a cluster but the first.
class Run {
 public:
  // Every frame alone. `costs` are those of merging each of all n frames with the one before.
  template <class Scalar>
  Run(const Workshop<Scalar>& shop, const std::vector<double>& costs, std::size_t first,
      std::size_t last);

  // Takes over what `parts`, which agree with each other, have done.
  Run(std::vector<Run> parts, Arena& arena);

  // Merges the cheapest pair again and again while it costs less than `limit`.
  template <class Scalar>
  void merge_below(double limit, Workshop<Scalar>& shop);

  // The first border at which this run and `later`, which overlaps its end, may be joined: both
  // have it and made the same cluster after it. Then all that this run did before the border and
  // all that `later` did after it stands: the border held to the end against that very cluster.
  std::optional<std::size_t> agreement(const Run& later) const;

  // The last border with at least `overlap` frames and two clusters after it, else the first frame.
  std::size_t border_before_end(std::size_t overlap) const;

  // A copy of what this run has from `border` on, which shares the sums.
  Run tail(std::size_t border, Arena& arena) const;

  // Recycles the sums.
  void discard(Arena& arena) const { discard(0, clusters_.size(), arena); }

  std::size_t first() const { return clusters_.front().first; }
  std::size_t last() const { return last_; }
  const std::vector<Merge>& merges() const { return merges_; }

  std::size_t begin, end;  // the frames for which this run has the say among its neighbours

 private:
  struct Cluster {
    Operand row;
    Id id;  // orders the merges of this run alone, as the ids of the whole would
    std::size_t first;
  };

  // Who is beside whom while clusters merge.
  struct Chain {
    explicit Chain(std::size_t length);
    std::vector<std::uint32_t> previous, next;
  };

  template <class Scalar>
  void merge_at(std::size_t border, Chain& chain, Workshop<Scalar>& shop);
  void drop_merged();
  void adopt_order(std::vector<Run>& parts);
  Id next_id() const { return static_cast<Id>(last_ + merges_.size()); }
  bool has_say(const Merge& merge) const { return begin < merge.right && merge.right < end; }
  bool same_cluster(std::size_t slot, const Run& other, std::size_t other_slot) const;
  std::vector<std::uint32_t> borders_merged(std::size_t from, std::size_t to) const;
  std::size_t slot_at(std::size_t frame) const;
  std::size_t end_of(std::size_t slot) const;
  void discard(std::size_t from, std::size_t to, Arena& arena) const;

  std::size_t last_;
  std::vector<Cluster> clusters_;  // those not merged into another, in temporal order
  std::vector<double> costs_;      // with the cluster before; kNever where there is none
  std::vector<Merge> merges_;
};

}  // namespace action100m

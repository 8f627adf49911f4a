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

// The cluster that starts at frame `left` absorbed the one that starts at frame `right`.
struct Merge {
  double cost;
  std::uint32_t left, right;
};

// Input and resources shared by all runs.
template <class Scalar>
struct Workshop {
  const Scalar* rows;  // (n, d)
  std::size_t n, d;
  Kernels<Scalar> kernels;
  Arena arena;
};

// Greedy merging of the frames [first, last), as if there were no other frames.
//
// A border is the first frame of any cluster except the first one.
class Run {
 public:
  // Starts with single frames. `costs` are those of merging each of the n frames with the previous.
  template <class Scalar>
  Run(const Workshop<Scalar>& shop, const std::vector<double>& costs, std::size_t first,
      std::size_t last);

  // Combines the merges of `parts`, which agree with each other.
  Run(std::vector<Run> parts, Arena& arena);

  // Repeatedly merges the cheapest pair while it costs less than `limit`.
  template <class Scalar>
  void merge_below(double limit, Workshop<Scalar>& shop);

  // The first border at which this run and `later`, which overlaps its end, may be joined: both
  // have it, and formed the same cluster after it. Then the merges of this run before the border
  // and of `later` after it are final: the border was kept to the end next to that cluster.
  std::optional<std::size_t> agreement(const Run& later) const;

  // The last border with at least `overlap` frames and two clusters after it, else the first frame.
  std::size_t border_before_end(std::size_t overlap) const;

  // A copy of this run from `border` on, which shares the sums.
  Run tail(std::size_t border, Arena& arena) const;

  // Returns the sums to the arena.
  void discard(Arena& arena) const { discard(0, clusters_.size(), arena); }

  std::size_t first() const { return clusters_.front().first; }
  std::size_t last() const { return last_; }
  const std::vector<Merge>& merges() const { return merges_; }

  std::size_t begin, end;  // the frames whose merges are taken from this run, not its neighbours

 private:
  struct Cluster {
    Operand row;
    Id id;  // orders the merges within this run as the ids of the whole would
    std::size_t first;
  };

  // Links neighbouring clusters while clusters merge.
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
  std::vector<double> costs_;      // with the previous cluster; kNever if there is none
  std::vector<Merge> merges_;
};

}  // namespace action100m

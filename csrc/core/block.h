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

// The input and what all blocks share for working on it.
template <class Scalar>
struct Context {
  const Scalar* rows;  // (n, d)
  std::size_t n, d;
  Kernels<Scalar> kernels;
  Arena arena;
};

// The clusters that greedy merging makes of the frames [first, last), as if there were no others.
//
// A border is the first frame of any cluster except the first one; a slot is an index of a cluster.
class Block {
 public:
  // Starts with single frames. `costs` are those of merging each of the n frames with the previous.
  template <class Scalar>
  Block(const Context<Scalar>& context, const std::vector<double>& costs, std::size_t first,
        std::size_t last);

  // Joins `parts`, which agree with each other: of each, what it owns.
  Block(std::vector<Block> parts, Arena& arena);

  // Repeatedly merges the cheapest pair while it costs less than `limit`.
  template <class Scalar>
  void merge_below(double limit, Context<Scalar>& context);

  // The first border at which this block and `later`, which overlaps its end, may be joined: both
  // have it, and formed the same cluster after it. Then the merges of this block before the border
  // and of `later` after it are final: the border was kept to the end next to that cluster.
  std::optional<std::size_t> border_to_join(const Block& later) const;

  // The last border with at least `overlap` frames and two clusters after it, else the first frame.
  std::size_t border_before_end(std::size_t overlap) const;

  // A copy of this block from `border` on, which shares the sums.
  Block tail(std::size_t border, Arena& arena) const;

  // Returns the sums to the arena.
  void release_sums(Arena& arena) const { release_sums(0, clusters_.size(), arena); }

  std::size_t first() const { return clusters_.front().first; }
  std::size_t last() const { return last_; }
  const std::vector<Merge>& merges() const { return merges_; }

  // The frames [owned_begin, owned_end) take their merges from this block, not from a neighbour.
  std::size_t owned_begin, owned_end;

 private:
  struct Cluster {
    Operand row;
    Id id;  // orders the merges within this block as the ids of the whole would
    std::size_t first;
  };

  // Links the slots of neighbouring clusters while clusters merge.
  struct Chain {
    explicit Chain(std::size_t length);
    std::vector<std::uint32_t> previous, next;
  };

  template <class Scalar>
  void merge_with_previous(std::size_t slot, Chain& chain, Context<Scalar>& context);
  void drop_merged();
  void interleave_merges(std::vector<Block>& parts);
  Id next_id() const { return static_cast<Id>(last_ + merges_.size()); }
  bool owns(const Merge& merge) const {
    return owned_begin < merge.right && merge.right < owned_end;
  }
  bool same_cluster(std::size_t slot, const Block& other, std::size_t other_slot) const;
  std::vector<std::uint32_t> borders_merged(std::size_t from, std::size_t to) const;
  std::size_t slot_at(std::size_t frame) const;
  std::size_t end_of(std::size_t slot) const;
  void release_sums(std::size_t from, std::size_t to, Arena& arena) const;

  std::size_t last_;
  std::vector<Cluster> clusters_;  // those not merged into another, in temporal order
  std::vector<double> costs_;      // with the previous cluster; kNever if there is none
  std::vector<Merge> merges_;
};

}  // namespace action100m

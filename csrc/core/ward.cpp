// Why it is fast: greedy Ward merges the cheapest pair of all, but distant merges do not affect
// each other. So short blocks are merged within the cache, each up to the same cost limit. Blocks
// overlap, and two of them are joined where they agree on a cluster (see Block::border_to_join).
// Joined blocks form longer blocks, with a higher limit, and these form the whole. Where longer
// blocks overlap, the later one starts with a copy of the end of the earlier one's last short
// block: its merges are final, except at its own end, where the next short block has to agree with
// it.
#include "core/ward.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/block.h"

namespace action100m {
namespace {

// The share of the merges that blocks of each depth do. Each depth halves the clusters, and joins
// two blocks: every block then starts with about as many clusters, so the cache is large enough for
// all of them. On bench/ward.py's data, four to seven depths do equally many merges, but four need
// two to three times the memory of six, as more sums wait for the last merges; a seventh saves
// little.
constexpr double kShares[] = {0.5, 0.75, 0.875, 0.94, 0.97, 0.985};
constexpr std::size_t kGrowth = 2;

// A block shares 1/10 of its length with the next one at depth 0, and 1/6 above. Chosen by counting
// merges on bench/ward.py's data: what is shared is merged twice, but with half the overlap, so
// many blocks disagree that there are 1.7 times as many merges. Above depth 0, a larger overlap
// costs less, because its shorter blocks are not merged twice.
constexpr std::size_t kOverlaps[] = {10, 6};

// The stretches from which `estimate_limits` estimates, spread over the whole. A stretch must be
// longer than the average cluster after the last of kShares (67 frames): with half the length, one
// kind of bench/ward.py's data needed 1.36 times as many merges. As all are merged twice, twice as
// many or as long needed 1.01 to 1.08 times as many.
constexpr std::size_t kPilots = 4, kPilotLength = 96;

template <class Scalar>
class Ward {
 public:
  Ward(const Scalar* rows, std::size_t n, std::size_t d, SimdPath path, std::size_t block_length)
      : context_{rows, n, d, kernels<Scalar>(path), Arena(d)},
        block_length_(std::max<std::size_t>(block_length, 1)),
        costs_(n, kNever) {}

  Block merge_all() {
    if (context_.n > 2 * block_length_) estimate_limits();
    return merge_frames(0, context_.n, limits_.size(), kNever);
  }

 private:
  // Computes costs of neighbouring frames block by block, which also brings a block into the cache.
  void compute_costs_until(std::size_t last) {
    if (last <= known_costs_) return;
    compute_costs(known_costs_, last);
    known_costs_ = last;
  }

  void compute_costs(std::size_t first, std::size_t last) {
    const Scalar* const before = context_.rows + (first - 1) * context_.d;
    context_.kernels.pair_costs(before, last - first, context_.d, &costs_[first]);
    for (std::size_t i = first; i < last; ++i) {
      if (!(costs_[i] < kNever)) throw std::overflow_error("A Ward cost overflows float64.");
    }
  }

  // Estimates, from short stretches that are merged completely, the cost that each share reaches.
  void estimate_limits() {
    const std::size_t length = std::min(kPilotLength, context_.n);
    std::vector<double> levels;
    for (std::size_t pilot = 0; pilot < kPilots; ++pilot) {
      const std::size_t first = (context_.n - length) * pilot / (kPilots - 1);
      const std::size_t last = first + length;
      compute_costs(first + 1, last);
      Block block(context_, costs_, first, last);
      block.merge_below(kNever, context_);
      block.release_sums(context_.arena);
      double level = 0;
      for (const Merge& merge : block.merges()) {
        levels.push_back(level = std::max(level, merge.cost));
      }
    }
    std::sort(levels.begin(), levels.end());
    for (const double share : kShares) {
      limits_.push_back(
          levels[static_cast<std::size_t>(share * static_cast<double>(levels.size()))]);
    }
  }

  // Merges the frames [first, last) below `limit`, starting from blocks of the next lower depth, or
  // of a still lower one if blocks at that depth disagree too often.
  Block merge_frames(std::size_t first, std::size_t last, std::size_t depth, double limit) {
    std::optional<std::vector<Block>> parts;
    while (!parts && depth > 0) {
      if (!disagrees_too_often(--depth)) parts = cover_with_blocks(first, last, depth);
    }
    compute_costs_until(last);
    if (parts && last < context_.n) keep_tail(parts->back(), depth);
    Block block =
        parts ? Block(*std::move(parts), context_.arena) : Block(context_, costs_, first, last);
    block.merge_below(limit, context_);
    return block;
  }

  // Keeps the part with which the next block, which overlaps this one, will start.
  void keep_tail(const Block& part, std::size_t depth) {
    const std::size_t first = part.border_before_end(overlap(depth + 1));
    drop_tail(depth);
    if (first >= part.owned_begin && first > part.first()) {
      tails_[depth] = part.tail(first, context_.arena);
    }
  }

  // Returns the tail of the last block of this depth if it starts at frame `first`, else nothing.
  std::vector<Block> take_tail(std::size_t depth, std::size_t first) {
    std::vector<Block> blocks;
    if (tails_[depth] && tails_[depth]->first() == first) {
      blocks.push_back(*std::exchange(tails_[depth], std::nullopt));
    }
    drop_tail(depth);
    return blocks;
  }

  void drop_tail(std::size_t depth) {
    if (tails_[depth]) tails_[depth]->release_sums(context_.arena);
    tails_[depth].reset();
  }

  // Drops the tails of blocks of lower depth than `depth` that start before frame `first`.
  void drop_tails(std::size_t depth, std::size_t first) {
    for (std::size_t i = 0; i < depth; ++i) {
      if (tails_[i] && tails_[i]->first() < first) drop_tail(i);
    }
  }

  std::size_t overlap(std::size_t depth) const { return length(depth) / kOverlaps[depth > 0]; }

  std::size_t length(std::size_t depth) const {
    std::size_t length = block_length_;
    for (std::size_t i = 0; i < depth; ++i) length *= kGrowth;
    return length;
  }

  // Covers the frames [first, last) with overlapping blocks that agree with each other. A block
  // that does not agree with the previous one is merged again from an earlier start, which doubles
  // the overlap. Returns nothing if that happens too often.
  std::optional<std::vector<Block>> cover_with_blocks(std::size_t first, std::size_t last,
                                                      std::size_t depth) {
    std::vector<Block> blocks = take_tail(depth, first);
    if (!blocks.empty()) first = start_after(blocks.back(), depth);
    std::size_t end =
        std::min((blocks.empty() ? first : blocks.back().last()) + length(depth), last);
    while (true) {
      Block next = merge_frames(first, end, depth, limits_[depth]);
      const auto border = blocks.empty() ? first : blocks.back().border_to_join(next);
      if (border) {
        drop_tails(depth, *border);
        next.owned_begin = *border;
        if (!blocks.empty()) blocks.back().owned_end = *border;
        blocks.push_back(std::move(next));
        covered_[depth] += end - *border;
        if (end == last) return blocks;
        first = start_after(blocks.back(), depth);
        end = std::min(end + length(depth), last);
      } else {
        drop_tails(depth, context_.n);
        next.release_sums(context_.arena);
        first = blocks.back().border_before_end(2 * (blocks.back().last() - first));
        if (first == blocks.back().first()) {
          blocks.back().release_sums(context_.arena);
          blocks.pop_back();
        }
        repeated_[depth] += end - first;
        if (disagrees_too_often(depth)) break;
      }
    }
    for (const Block& block : blocks) block.release_sums(context_.arena);
    return std::nullopt;
  }

  // Whether too many frames had to be merged again for blocks of this depth to be worthwhile. The
  // quarter is rough: it limits the loss on data that disagree often, and bench/ward.py's data need
  // as many merges with a larger share, and 1.03 times as many if nothing is tolerated. The two
  // blocks are for a disagreement among the first, which must not exclude a depth for good.
  bool disagrees_too_often(std::size_t depth) const {
    return repeated_[depth] > covered_[depth] / 4 + 2 * length(depth);
  }

  // The frame at which the block after `block` starts, so that the two overlap.
  std::size_t start_after(const Block& block, std::size_t depth) const {
    if (depth > 0 && tails_[depth - 1]) return tails_[depth - 1]->first();
    return block.border_before_end(overlap(depth));
  }

  Context<Scalar> context_;
  std::size_t block_length_;    // at depth 0
  std::vector<double> costs_;   // of merging each frame with the previous; kNever for the first
  std::vector<double> limits_;  // cost limit of each depth
  std::optional<Block> tails_[std::size(kShares)];  // of the last block of each depth
  // For each depth, frames that blocks have covered, and frames merged again after disagreement.
  std::size_t covered_[std::size(kShares)] = {}, repeated_[std::size(kShares)] = {};
  std::size_t known_costs_ = 1;  // number of costs that are known
};

// Writes the merges, numbered as scikit-learn does.
void write(const std::vector<Merge>& merges, std::int64_t* children, double* heights) {
  const std::size_t n = merges.size() + 1;
  std::vector<Id> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const auto [cost, left, right] = merges[i];
    children[2 * i] = std::min(ids[left], ids[right]);
    children[2 * i + 1] = std::max(ids[left], ids[right]);
    heights[i] = std::sqrt(2 * cost);
    ids[left] = static_cast<Id>(n + i);
  }
}

// Explains which row made a cost overflow.
template <class Scalar>
std::string overflow_message(const Scalar* rows, std::size_t n, std::size_t d) {
  const auto is_finite = [](Scalar value) { return std::isfinite(value); };
  const Scalar* const bad = std::find_if_not(rows, rows + n * d, is_finite);
  if (bad == rows + n * d) {
    return "Embeddings are so large that their squares overflow float64: scale them down.";
  }
  return "Row " + std::to_string((bad - rows) / d) + " of the embeddings holds " +
         (std::isnan(*bad) ? "NaN" : "infinity") + "; every value must be finite.";
}

}  // namespace

template <class Scalar>
void ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children, double* heights,
          SimdPath path, std::size_t block_length) {
  // A single frame has no cost that would overflow.
  if (n == 1 && !std::all_of(rows, rows + d, [](Scalar x) { return std::isfinite(x); })) {
    throw std::domain_error(overflow_message(rows, n, d));
  }
  try {
    write(Ward<Scalar>(rows, n, d, path, block_length).merge_all().merges(), children, heights);
  } catch (const std::overflow_error&) {
    throw std::domain_error(overflow_message(rows, n, d));
  }
}

std::size_t default_block_length(std::size_t d) {
  // float32 frames, and the sums of half as many clusters, take as much as the frames in float64.
  // This fits into a cache of 1 MiB, and leaves room for the overlap and the tournament.
  constexpr std::size_t kBlockBytes = std::size_t{880} << 10;
  // Shorter blocks disagree so often that they do more merges than the cache saves time; in longer
  // ones, d is so small that bookkeeping takes the time, not the rows.
  constexpr std::size_t kShortest = 64, kLongest = 4096;
  return std::clamp(kBlockBytes / (d * sizeof(double)), kShortest, kLongest);
}

template void ward(const float*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);
template void ward(const double*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);

}  // namespace action100m

// Why it is fast: greedy Ward merges the cheapest pair of all, but distant merges do not affect
// each other. So short blocks are merged within the cache, each up to the same cost limit. Blocks
// overlap, and two of them are joined where they agree on a cluster (see Run::agreement). Joined
// blocks form longer blocks, with a higher limit, and these form the whole. Where longer blocks
// overlap, the later one starts with a copy of the end of the earlier one's last short block: its
// merges are final, except at its own end, where the next short block has to agree with it.
#include "core/ward.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/run.h"

namespace action100m {
namespace {

constexpr double kShares[] = {0.5,  0.75, 0.875,
                              0.94, 0.97, 0.985};  // of the merges that each depth of blocks does
constexpr std::size_t kGrowth = 2;                 // blocks in a block of the next depth
constexpr std::size_t kOverlaps[] = {10, 6};       // a block shares 1/10 (1/6) with the next one
constexpr std::size_t kPilots = 4, kPilotLength = 96;

template <class Scalar>
class Ward {
 public:
  Ward(const Scalar* rows, std::size_t n, std::size_t d, SimdPath path, std::size_t block)
      : shop_{rows, n, d, kernels<Scalar>(path), Arena(d)},
        block_(std::max<std::size_t>(block, 1)),
        costs_(n, kNever) {}

  Run run() {
    if (shop_.n > 2 * block_) set_limits();
    return run(0, shop_.n, limits_.size(), kNever);
  }

 private:
  // Computes costs of neighbouring frames block by block, which also brings a block into the cache.
  void price_until(std::size_t last) {
    if (last <= priced_) return;
    price(priced_, last);
    priced_ = last;
  }

  void price(std::size_t first, std::size_t last) {
    const Scalar* const before = shop_.rows + (first - 1) * shop_.d;
    shop_.kernels.price(before, last - first, shop_.d, &costs_[first]);
    for (std::size_t i = first; i < last; ++i) {
      if (!(costs_[i] < kNever)) throw std::overflow_error("A Ward cost overflows float64.");
    }
  }

  // Estimates, from short stretches that are merged completely, the cost that each share reaches.
  void set_limits() {
    const std::size_t length = std::min(kPilotLength, shop_.n);
    std::vector<double> levels;
    for (std::size_t pilot = 0; pilot < kPilots; ++pilot) {
      const std::size_t first = (shop_.n - length) * pilot / (kPilots - 1), last = first + length;
      price(first + 1, last);
      Run run(shop_, costs_, first, last);
      run.merge_below(kNever, shop_);
      run.discard(shop_.arena);
      double level = 0;
      for (const Merge& merge : run.merges()) levels.push_back(level = std::max(level, merge.cost));
    }
    std::sort(levels.begin(), levels.end());
    for (const double share : kShares) {
      limits_.push_back(
          levels[static_cast<std::size_t>(share * static_cast<double>(levels.size()))]);
    }
  }

  // Merges the frames [first, last) below `limit`, starting from blocks of the next lower depth, or
  // of a still lower one if blocks at that depth are too entangled.
  Run run(std::size_t first, std::size_t last, std::size_t depth, double limit) {
    std::optional<std::vector<Run>> parts;
    while (!parts && depth > 0) {
      if (!is_entangled(--depth)) parts = blocks(first, last, depth);
    }
    price_until(last);
    if (parts && last < shop_.n) keep_tail(parts->back(), depth);
    Run run = parts ? Run(*std::move(parts), shop_.arena) : Run(shop_, costs_, first, last);
    run.merge_below(limit, shop_);
    return run;
  }

  // Keeps the part with which the next block, which overlaps this one, will start.
  void keep_tail(const Run& part, std::size_t depth) {
    const std::size_t first = part.border_before_end(overlap(depth + 1));
    drop_tail(depth);
    if (first >= part.begin && first > part.first()) tails_[depth] = part.tail(first, shop_.arena);
  }

  // Returns the tail of the last block of this depth if it starts at frame `first`, else nothing.
  std::vector<Run> take_tail(std::size_t depth, std::size_t first) {
    std::vector<Run> runs;
    if (tails_[depth] && tails_[depth]->first() == first) {
      runs.push_back(*std::exchange(tails_[depth], std::nullopt));
    }
    drop_tail(depth);
    return runs;
  }

  void drop_tail(std::size_t depth) {
    if (tails_[depth]) tails_[depth]->discard(shop_.arena);
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
    std::size_t length = block_;
    for (std::size_t i = 0; i < depth; ++i) length *= kGrowth;
    return length;
  }

  // Covers the frames [first, last) with runs over overlapping blocks that agree with each other.
  // A block that does not agree with the previous one is merged again from an earlier start.
  // Returns nothing if that happens too often.
  std::optional<std::vector<Run>> blocks(std::size_t first, std::size_t last, std::size_t depth) {
    std::vector<Run> runs = take_tail(depth, first);
    if (!runs.empty()) first = start_after(runs.back(), depth);
    std::size_t end = std::min((runs.empty() ? first : runs.back().last()) + length(depth), last);
    while (true) {
      Run next = run(first, end, depth, limits_[depth]);
      const auto border = runs.empty() ? first : runs.back().agreement(next);
      if (border) {
        drop_tails(depth, *border);
        next.begin = *border;
        if (!runs.empty()) runs.back().end = *border;
        runs.push_back(std::move(next));
        covered_[depth] += end - *border;
        if (end == last) return runs;
        first = start_after(runs.back(), depth);
        end = std::min(end + length(depth), last);
      } else {
        drop_tails(depth, shop_.n);
        next.discard(shop_.arena);
        first = runs.back().border_before_end(2 * (runs.back().last() - first));
        if (first == runs.back().first()) {
          runs.back().discard(shop_.arena);
          runs.pop_back();
        }
        again_[depth] += end - first;
        if (is_entangled(depth)) break;
      }
    }
    for (const Run& run : runs) run.discard(shop_.arena);
    return std::nullopt;
  }

  // Whether too many frames had to be merged again for blocks of this depth to be worthwhile.
  bool is_entangled(std::size_t depth) const {
    return again_[depth] > covered_[depth] / 4 + 2 * length(depth);
  }

  // The frame at which the block after `run` starts, so that the two overlap.
  std::size_t start_after(const Run& run, std::size_t depth) const {
    if (depth > 0 && tails_[depth - 1]) return tails_[depth - 1]->first();
    return run.border_before_end(overlap(depth));
  }

  Workshop<Scalar> shop_;
  std::size_t block_;
  std::vector<double> costs_;   // of merging each frame with the previous; kNever for the first
  std::vector<double> limits_;  // cost limit of each depth
  std::optional<Run> tails_[std::size(kShares)];  // of the last block of each depth
  // For each depth, frames that blocks have covered, and frames merged again after disagreement.
  std::size_t covered_[std::size(kShares)] = {}, again_[std::size(kShares)] = {};
  std::size_t priced_ = 1;  // number of costs that are known
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
std::string complaint(const Scalar* rows, std::size_t n, std::size_t d) {
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
          SimdPath path, std::size_t block) {
  // A single frame has no cost that would overflow.
  if (n == 1 && !std::all_of(rows, rows + d, [](Scalar x) { return std::isfinite(x); })) {
    throw std::domain_error(complaint(rows, n, d));
  }
  try {
    write(Ward<Scalar>(rows, n, d, path, block).run().merges(), children, heights);
  } catch (const std::overflow_error&) {
    throw std::domain_error(complaint(rows, n, d));
  }
}

std::size_t default_block(std::size_t d) {
  constexpr std::size_t kBlockBytes = std::size_t{880} << 10;
  return std::clamp<std::size_t>(kBlockBytes / (d * sizeof(double)), 64, 4096);
}

template void ward(const float*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);
template void ward(const double*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);

}  // namespace action100m

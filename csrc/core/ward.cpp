// How it is fast: greedy Ward wants the cheapest pair of the whole chain, but merges far apart do
// not touch each other. So the chain is worked through in blocks that fit into the cache, each up
// to the same cost limit. Blocks overlap, and where two of them agree on a cluster they are joined
// (see Run::agreement). Then the same again with the clusters that are left and a higher limit, and
// at the end one run over the few that remain. The blocks' merges are numbered in global order.
#include "core/ward.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <stdexcept>
#include <string>
#include <tuple>

#include "core/run.h"

namespace action100m {
namespace {

template <class Scalar>
class Ward {
 public:
  Ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children, double* heights,
       SimdPath path, std::size_t block)
      : rows_(rows),
        n_(n),
        d_(d),
        children_(children),
        heights_(heights),
        kernels_(kernels<Scalar>(path)),
        block_(block),
        arena_(d) {
    chain_.clusters.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      chain_.clusters[i] = {{rows + i * d, 1, false}, static_cast<Id>(i)};
    }
    chain_.costs.resize(n, kNever);
  }

  void run() {
    while (chain_.clusters.size() > 2 * block_ && ambition_ < std::size(kShares)) {
      if (!merge_blocks()) ++ambition_;
    }
    price_until(n_);
    std::vector<Run> runs;
    runs.emplace_back(chain_, 0, chain_.clusters.size(), next_id());
    runs[0].merge_below(kNever, kernels_, arena_, d_, true);
    number_merges(runs);
  }

 private:
  Id next_id() const { return static_cast<Id>(n_ + done_); }

  // Costs of neighbouring frames, block by block, while the block is on its way into the cache.
  void price_until(std::size_t last) {
    if (last <= priced_) return;
    kernels_.price(rows_ + (priced_ - 1) * d_, last - priced_, d_, &chain_.costs[priced_]);
    for (; priced_ < last; ++priced_) {
      if (!(chain_.costs[priced_] < kNever)) throw std::overflow_error("A Ward cost overflows.");
    }
  }

  // The cost at which about `share` of the merges will be done, as a few short stretches tell that
  // are merged to their ends.
  double limit(double share) {
    const std::size_t size = chain_.clusters.size(), length = std::min(kPilotLength, size);
    std::vector<double> levels;
    for (std::size_t pilot = 0; pilot < kPilots; ++pilot) {
      const std::size_t first = (size - length) * pilot / (kPilots - 1), last = first + length;
      if (size == n_) kernels_.price(rows_ + first * d_, length - 1, d_, &chain_.costs[first + 1]);
      Run run(chain_, first, last, next_id());
      run.merge_below(kNever, kernels_, arena_, d_, false);
      run.discard(first, last, arena_);
      double level = 0;
      for (const Merge& merge : run.merges()) {
        levels.push_back(level = std::max(level, merge.cost));
      }
    }
    const auto wanted = levels.begin() + static_cast<std::ptrdiff_t>(share * levels.size());
    std::nth_element(levels.begin(), wanted, levels.end());
    return *wanted;
  }

  // One round over the chain. False if it did too little to be worth another.
  bool merge_blocks() {
    const std::size_t size = chain_.clusters.size();
    const double limit = this->limit(kShares[ambition_]);
    std::vector<Run> runs;
    std::size_t first = 0, last = block_, again = 0;
    while (true) {
      price_until(std::min(last, n_));
      Run run(chain_, first, last, next_id());
      run.merge_below(limit, kernels_, arena_, d_, false);
      if (!runs.empty()) {
        Run& before = runs.back();
        const auto border = before.agreement(run);
        if (!border) {
          run.discard(first, last, arena_);
          before.discard(before.first(), before.last(), arena_);
          first = before.first();
          again += last - first;
          runs.pop_back();
          if (again > 4 * block_ + last / 2) break;
          continue;
        }
        before.end = run.begin = *border;
      }
      runs.push_back(std::move(run));
      if (last == size) {
        const auto done = done_;
        number_merges(runs);
        join(runs);
        return done_ - done > size / 4;
      }
      first = runs.back().border_before_end(block_ / kOverlap);
      last = std::min(last + block_, size);
    }
    for (const Run& run : runs) run.discard(run.first(), run.last(), arena_);
    return false;
  }

  // Writes the runs' merges in the order of the whole chain: the runs play for each next one.
  void number_merges(const std::vector<Run>& runs) {
    struct Head {
      double cost;
      Id newer, older;
      const Merge *merge, *end;
    };
    std::vector<Head> heads;
    const auto advance = [&](std::size_t i) {
      const Run& run = runs[i];
      Head& head = heads[i];
      const auto stands = [&](const Merge& merge) {
        return run.begin < merge.right && merge.right < run.end;
      };
      head.merge = std::find_if(head.merge, head.end, stands);
      if (head.merge == head.end) {
        head.cost = kNever;
      } else {
        const Id a = chain_.clusters[head.merge->left].id,
                 b = chain_.clusters[head.merge->right].id;
        head = {head.merge->cost, std::max(a, b), std::min(a, b), head.merge, head.end};
      }
    };
    const auto before = [&](std::size_t i, std::size_t j) {
      const Head &a = heads[i], &b = heads[j];
      if (a.cost != b.cost) [[likely]]
        return a.cost < b.cost;
      return std::pair(a.newer, a.older) < std::pair(b.newer, b.older);
    };
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const std::vector<Merge>& merges = runs[i].merges();
      heads.push_back({kNever, 0, 0, merges.data(), merges.data() + merges.size()});
      advance(i);
    }
    Tournament tournament;
    tournament.start(runs.size(), before);
    while (heads[tournament.winner()].cost < kNever) {
      Head& head = heads[tournament.winner()];
      chain_.clusters[head.merge->left].id = next_id();
      children_[2 * done_] = head.older;
      children_[2 * done_ + 1] = head.newer;
      heights_[done_++] = std::sqrt(2 * head.cost);
      ++head.merge;
      advance(tournament.winner());
      tournament.update(tournament.winner(), before);
    }
  }

  // Makes the runs' clusters the next chain and recycles every sum that is no longer needed.
  void join(const std::vector<Run>& runs) {
    Chain next;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const Run& run = runs[i];
      run.discard(run.first(), run.begin, arena_);
      run.discard(run.end, run.last(), arena_);
      for (std::size_t slot = run.begin; slot < run.end; slot = run.next(slot)) {
        const bool joint = slot == run.begin && i > 0;
        next.costs.push_back(joint ? runs[i - 1].cost(slot) : run.cost(slot));
        next.clusters.push_back({run.row(slot), chain_.clusters[slot].id});
        if (run.next(slot) == slot + 1) continue;
        for (std::size_t old = slot; old < run.next(slot); ++old) recycle(chain_.clusters[old].row);
      }
    }
    chain_ = std::move(next);
  }

  void recycle(const Operand& row) {
    if (row.is_sum) arena_.give_back(static_cast<double*>(const_cast<void*>(row.values)));
  }

  static constexpr std::size_t kPilots = 4, kPilotLength = 96;
  static constexpr double kShares[] = {0.93, 0.6};  // of the merges, to be done in one round
  static constexpr std::size_t kOverlap = 8;        // of which each block shares one with the next

  const Scalar* rows_;
  std::size_t n_, d_;
  std::int64_t* children_;
  double* heights_;
  Kernels<Scalar> kernels_;
  std::size_t block_;
  Arena arena_;
  Chain chain_;
  std::size_t priced_ = 1;  // frames whose cost with the one before is known
  std::size_t ambition_ = 0;
  std::size_t done_ = 0;  // merges written
};

}  // namespace

// Says which row made a cost overflow.
template <class Scalar>
std::string complaint(const Scalar* rows, std::size_t n, std::size_t d) {
  const auto is_finite = [](Scalar value) { return std::isfinite(value); };
  const Scalar* const bad = std::find_if_not(rows, rows + n * d, is_finite);
  if (bad == rows + n * d) {
    return "Embeddings are so large that their squares overflow float64; scale them down.";
  }
  return "Row " + std::to_string((bad - rows) / d) + " of the embeddings holds " +
         (std::isnan(*bad) ? "NaN" : "infinity") + "; every value must be finite.";
}

template <class Scalar>
void ward(const Scalar* rows, std::size_t n, std::size_t d, std::int64_t* children, double* heights,
          SimdPath path, std::size_t block) {
  try {
    if (n == 1 && !std::all_of(rows, rows + d, [](Scalar x) { return std::isfinite(x); })) {
      throw std::overflow_error("There is no cost that would show it.");
    }
    Ward<Scalar>(rows, n, d, children, heights, path, block).run();
  } catch (const std::overflow_error&) {
    throw std::domain_error(complaint(rows, n, d));
  }
}

std::size_t default_block(std::size_t d) {
  constexpr std::size_t kBlockBytes = std::size_t{6} << 20;
  return std::clamp<std::size_t>(kBlockBytes / (d * sizeof(double)), 64, 4096);
}

template void ward(const float*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);
template void ward(const double*, std::size_t, std::size_t, std::int64_t*, double*, SimdPath,
                   std::size_t);

}  // namespace action100m

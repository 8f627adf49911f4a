#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace action100m {

// Rows of doubles. The row returned last is reused first, because it is most likely in the cache.
// A row may have several owners: the last double of a row, beyond its d values, counts them.
class Arena {
 public:
  // An odd number of cache lines per row, so that rows do not compete for the same cache sets.
  explicit Arena(std::size_t d) : d_(((d / kAlign + 1) | 1) * kAlign) {}

  double* take() {
    if (free_.empty()) grow();
    double* row = free_.back();
    free_.pop_back();
    owners(row) = 1;
    return row;
  }

  void share(double* row) { ++owners(row); }
  bool is_shared(double* row) const { return owners(row) > 1; }

  void give_back(double* row) {
    if (--owners(row) == 0) free_.push_back(row);
  }

 private:
  static constexpr std::size_t kAlign = 8;                    // doubles in a cache line
  static constexpr std::size_t kPage = std::size_t{2} << 20;  // bytes of a huge page

  struct Free {
    void operator()(void* chunk) const { std::free(chunk); }
  };

  // Allocates whole huge pages, because faulting in small ones takes longer than filling them. One
  // more than a row needs wastes less behind the last row.
  void grow() {
    const std::size_t row = d_ * sizeof(double), bytes = (row / kPage + 2) * kPage;
    chunks_.emplace_back(std::aligned_alloc(kPage, bytes));
    if (!chunks_.back()) throw std::bad_alloc();
#ifdef __linux__
    madvise(chunks_.back().get(), bytes, MADV_HUGEPAGE);
#endif
    double* const rows = static_cast<double*>(chunks_.back().get());
    for (std::size_t i = bytes / row; i > 0; --i) free_.push_back(rows + (i - 1) * d_);
  }

  double& owners(double* row) const { return row[d_ - 1]; }

  std::size_t d_;
  std::vector<std::unique_ptr<void, Free>> chunks_;
  std::vector<double*> free_;
};

}  // namespace action100m

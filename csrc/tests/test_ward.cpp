#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "core/ward.h"
#include "tests/check.h"

using action100m::SimdPath;

namespace {

struct Result {
  std::vector<std::int64_t> children;
  std::vector<double> heights;
  bool operator==(const Result&) const = default;
};

template <class Scalar>
Result ward(const std::vector<Scalar>& rows, std::size_t d, SimdPath path,
            std::size_t block_length) {
  const std::size_t n = rows.size() / d;
  Result result{std::vector<std::int64_t>(2 * (n - 1)), std::vector<double>(n - 1)};
  action100m::ward(rows.data(), n, d, result.children.data(), result.heights.data(), path,
                   block_length);
  return result;
}

// Looks at every pair of the whole chain before every merge.
template <class Scalar>
Result slow_ward(const std::vector<Scalar>& rows, std::size_t d) {
  struct Cluster {
    std::int64_t id;
    double count;
    std::vector<double> sum;
  };
  const std::size_t n = rows.size() / d;
  std::vector<Cluster> chain(n);
  for (std::size_t i = 0; i < n; ++i) {
    chain[i] = {static_cast<std::int64_t>(i), 1, {&rows[i * d], &rows[i * d] + d}};
  }
  const auto key = [&](std::size_t i) {
    const Cluster &a = chain[i], &b = chain[i + 1];
    double squares = 0;
    for (std::size_t k = 0; k < d; ++k) {
      squares += std::pow(b.count * a.sum[k] - a.count * b.sum[k], 2);
    }
    return std::tuple(squares / (a.count * b.count * (a.count + b.count)), std::max(a.id, b.id),
                      std::min(a.id, b.id));
  };
  Result result;
  for (std::size_t node = n; node < 2 * n - 1; ++node) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < chain.size(); ++i) best = key(i) < key(best) ? i : best;
    const auto [cost, newer, older] = key(best);
    result.children.insert(result.children.end(), {older, newer});
    result.heights.push_back(std::sqrt(2 * cost));
    Cluster& merged = chain[best];
    for (std::size_t k = 0; k < d; ++k) merged.sum[k] += chain[best + 1].sum[k];
    merged.count += chain[best + 1].count;
    merged.id = static_cast<std::int64_t>(node);
    chain.erase(chain.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  return result;
}

template <class Scalar>
void every_path_and_block_gives_the_slow_result(std::size_t n, std::size_t d, bool ties) {
  std::mt19937 random(static_cast<unsigned>(n * 31 + d));
  std::normal_distribution<Scalar> normal;
  std::vector<Scalar> rows(n * d);
  for (Scalar& value : rows) value = ties ? std::round(normal(random)) : normal(random);
  const Result slow = slow_ward(rows, d);
  const Result first = ward(rows, d, SimdPath::scalar, n);
  CHECK(first.children == slow.children);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    CHECK(std::abs(first.heights[i] - slow.heights[i]) <= 1e-12 * slow.heights[i]);
  }
  for (const SimdPath path : action100m::simd_paths()) {
    for (const std::size_t block : {1, 2, 7, 32}) CHECK(ward(rows, d, path, block) == first);
  }
}

template <class Scalar>
std::string message(const std::vector<Scalar>& rows, std::size_t d) {
  try {
    ward(rows, d, SimdPath::scalar, 8);
  } catch (const std::domain_error& error) {
    return error.what();
  }
  return "";
}

void bad_rows_are_named() {
  std::vector<float> rows(60, 1.5F);
  CHECK(message(rows, 3).empty());
  rows[3 * 17 + 2] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(rows, 3).starts_with("Row 17 of the embeddings holds NaN"));
  rows[3 * 4] = -std::numeric_limits<float>::infinity();
  CHECK(message(rows, 3).starts_with("Row 4 of the embeddings holds infinity"));
  CHECK(message(std::vector{1e200, -1e200}, 1).starts_with("Embeddings are so large"));
  CHECK(message(std::vector(9, 1e308), 1).starts_with("Embeddings are so large"));
  CHECK(message(std::vector(9, std::numeric_limits<float>::max()), 1).empty());
}

}  // namespace

int main() {
  for (const std::size_t n : {1, 2, 3, 20, 130}) {
    for (const std::size_t d : {1, 8, 21}) {
      for (const bool ties : {false, true}) {
        every_path_and_block_gives_the_slow_result<float>(n, d, ties);
        every_path_and_block_gives_the_slow_result<double>(n, d, ties);
      }
    }
  }
  bad_rows_are_named();
}

// The row arithmetic, compiled once for each path with its own compiler flags. The including file
// defines the path as ACTION100M_PATH.
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "core/kernels.h"

namespace action100m {
namespace {

constexpr SimdPath kPath = ACTION100M_PATH;
constexpr std::size_t kWidth = kPath == SimdPath::avx512 ? 8 : kPath == SimdPath::avx2 ? 4 : 2;
constexpr std::size_t kLanes = 8;  // as many as AVX-512 has
constexpr std::size_t kParts = kLanes / kWidth;

typedef double Doubles __attribute__((vector_size(kWidth * sizeof(double))));
typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));

inline void load(const double* source, Doubles& values) {
  std::memcpy(&values, source, sizeof values);
}

inline void load(const float* source, Doubles& values) {
#if defined(__AVX512F__)  // otherwise GCC widens the vector in halves
  values = _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(source));
#elif defined(__AVX2__)
  values = _mm256_cvtps_pd(_mm_loadu_ps(source));
#else
  Floats narrow;
  std::memcpy(&narrow, source, sizeof narrow);
  values = __builtin_convertvector(narrow, Doubles);
#endif
}

// A sum of squares, in eight lanes.
class Squares {
 public:
  void add(std::size_t part, const Doubles& difference) { parts_[part] += difference * difference; }

  double total() const {
    return ((lane(0) + lane(4)) + (lane(2) + lane(6))) +
           ((lane(1) + lane(5)) + (lane(3) + lane(7)));
  }

 private:
  double lane(std::size_t i) const { return parts_[i / kWidth][i % kWidth]; }

  Doubles parts_[kParts] = {};
};

// The last d % 8 values of a row, padded with zeros, which do not change sums of squares.
template <class Value>
struct Tail {
  Tail(const Value* row, std::size_t d) {
    std::memcpy(values, row + d / kLanes * kLanes, d % kLanes * sizeof(Value));
  }
  Value values[kLanes] = {};
};

// Computes the costs of several pairs at once: each frame is loaded and widened once, and the sums
// are independent. The frames of the next pairs are prefetched meanwhile; prefetching beyond the
// last frame is harmless.
template <std::size_t kPairs, class Scalar>
void unrolled_pair_costs(const Scalar* frames, std::size_t d, double* costs) {
  Squares squares[kPairs];
  const auto add = [&](const auto& frame) {
    Doubles before[kParts];
    for (std::size_t part = 0; part < kParts; ++part) load(frame(0) + part * kWidth, before[part]);
    for (std::size_t pair = 0; pair < kPairs; ++pair) {
      for (std::size_t part = 0; part < kParts; ++part) {
        Doubles after;
        load(frame(pair + 1) + part * kWidth, after);
        squares[pair].add(part, before[part] - after);
        before[part] = after;
      }
    }
  };
  constexpr std::size_t kLine = 64 / sizeof(Scalar);  // values in a cache line
  std::size_t k = 0;
  for (; k + kLanes <= d; k += kLanes) {
    for (std::size_t i = 1; i <= kPairs && k % kLine == 0; ++i) {
      __builtin_prefetch(frames + (kPairs + i) * d + k, 0, 2);  // to read, into the level 2 cache
    }
    add([&](std::size_t i) { return frames + i * d + k; });
  }
  if (k < d) {
    std::vector<Tail<Scalar>> tails;
    for (std::size_t i = 0; i <= kPairs; ++i) tails.emplace_back(frames + i * d, d);
    add([&](std::size_t i) { return tails[i].values; });
  }
  for (std::size_t pair = 0; pair < kPairs; ++pair) costs[pair] = squares[pair].total() / 2;
}

template <class Scalar>
void pair_costs(const Scalar* frames, std::size_t pairs, std::size_t d, double* costs) {
  constexpr std::size_t kTogether = 8 / kParts;  // as many sums as fit into registers
  std::size_t i = 0;
  for (; i + kTogether <= pairs; i += kTogether) {
    unrolled_pair_costs<kTogether>(frames + i * d, d, costs + i);
  }
  for (; i < pairs; ++i) unrolled_pair_costs<1>(frames + i * d, d, costs + i);
}

// |n_b S_a - n_a S_b|^2 / (n_a n_b (n_a + n_b)), divided last so that equal frames cost exactly 0.
inline double ward_cost(const Squares& squares, double na, double nb) {
  return squares.total() / (na * nb * (na + nb));
}

// float rows are frames, not sums: their count is 1, so multiplying by it changes no bit.
template <class Neighbour>
inline Doubles times_count(const Doubles& merged, double count) {
  if constexpr (std::is_same_v<Neighbour, float>) {
    return merged;
  } else {
    return count * merged;
  }
}

template <class Left, class A, class B, class Right>
NeighbourCosts merge_rows(const Left* left, double n_left, const A* a, const B* b, double n,
                          const Right* right, double n_right, std::size_t d, double* sum) {
  Squares left_squares, right_squares;
  const auto add = [&](const Left* l, const A* x, const B* y, const Right* r, double* s) {
    for (std::size_t part = 0; part < kParts; ++part) {
      const std::size_t k = part * kWidth;
      Doubles merged, other;
      load(x + k, merged);
      load(y + k, other);
      merged += other;
      std::memcpy(s + k, &merged, sizeof merged);
      load(l + k, other);
      left_squares.add(part, times_count<Left>(merged, n_left) - n * other);
      load(r + k, other);
      right_squares.add(part, times_count<Right>(merged, n_right) - n * other);
    }
  };
  std::size_t k = 0;
  for (; k + kLanes <= d; k += kLanes) add(left + k, a + k, b + k, right + k, sum + k);
  if (k < d) {
    double tail[kLanes];
    add(Tail(left, d).values, Tail(a, d).values, Tail(b, d).values, Tail(right, d).values, tail);
    std::memcpy(sum + k, tail, (d - k) * sizeof(double));
  }
  return {ward_cost(left_squares, n, n_left), ward_cost(right_squares, n, n_right)};
}

// Calls `function` with the operand's row as its actual type.
template <class Scalar, class Function>
auto with_row(const Operand& operand, const Function& function) {
  return operand.is_sum ? function(static_cast<const double*>(operand.values))
                        : function(static_cast<const Scalar*>(operand.values));
}

template <class Scalar>
NeighbourCosts merge(const Operand& left, const Operand& a, const Operand& b, const Operand& right,
                     std::size_t d, double* sum) {
  return with_row<Scalar>(left, [&](const auto* l) {
    return with_row<Scalar>(a, [&](const auto* x) {
      return with_row<Scalar>(b, [&](const auto* y) {
        return with_row<Scalar>(right, [&](const auto* r) {
          return merge_rows(l, left.count, x, y, a.count + b.count, r, right.count, d, sum);
        });
      });
    });
  });
}

}  // namespace

template <>
Kernels<float> path_kernels<float, kPath>() {
  return {&pair_costs<float>, &merge<float>};
}

template <>
Kernels<double> path_kernels<double, kPath>() {
  return {&pair_costs<double>, &merge<double>};
}

}  // namespace action100m

#include "core/kernels.h"

namespace action100m {

#if defined(__x86_64__)

std::vector<SimdPath> simd_paths() {
  std::vector<SimdPath> paths{SimdPath::scalar};
  if (__builtin_cpu_supports("avx2")) paths.push_back(SimdPath::avx2);
  if (__builtin_cpu_supports("avx512f")) paths.push_back(SimdPath::avx512);
  return paths;
}

template <class Scalar>
Kernels<Scalar> kernels(SimdPath path) {
  if (path == SimdPath::avx512) return path_kernels<Scalar, SimdPath::avx512>();
  if (path == SimdPath::avx2) return path_kernels<Scalar, SimdPath::avx2>();
  return path_kernels<Scalar, SimdPath::scalar>();
}

#else

std::vector<SimdPath> simd_paths() { return {SimdPath::scalar}; }

template <class Scalar>
Kernels<Scalar> kernels(SimdPath) {
  return path_kernels<Scalar, SimdPath::scalar>();
}

#endif

template Kernels<float> kernels(SimdPath);
template Kernels<double> kernels(SimdPath);

}  // namespace action100m

#if defined(__x86_64__)
#define ACTION100M_PATH action100m::SimdPath::avx512
#include "core/kernels.inl"
#endif

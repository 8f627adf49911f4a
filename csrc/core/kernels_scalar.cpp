#define ACTION100M_PATH action100m::SimdPath::scalar
#include "core/kernels.inl"

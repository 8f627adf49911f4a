#pragma once

namespace action100m::cuda {

enum class Element { uint8, float16, bfloat16, float32 };

}  // namespace action100m::cuda

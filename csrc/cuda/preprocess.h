#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/resample.h"
#include "cuda/element.h"

namespace action100m::cuda {

// core/resample.h's preprocess on a GPU, for frames of one size: the same bits, rounded to the
// element type of the output. The filters are computed and uploaded once.
class Preprocessor {
 public:
  // Uploads on `stream` (a cudaStream_t), and waits for it. Throws std::runtime_error if CUDA
  // fails.
  Preprocessor(int device, std::size_t height, std::size_t width, const Crop& crop,
               const Normalisation& normalisation, void* stream);
  ~Preprocessor();

  // Queues on `stream` (a cudaStream_t): converts frames (n, height, width, 3) to out (n, 3, size,
  // size) of floats. `size` must be a multiple of 8, and `out` aligned to 16 bytes; the frames need
  // no alignment.
  void operator()(const std::uint8_t* frames, std::size_t n, void* out, Element type,
                  void* stream) const;

 private:
  struct Plan;
  std::unique_ptr<const Plan> plan_;
};

}  // namespace action100m::cuda

#include <pybind11/stl.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "bindings/device_array.h"
#include "bindings/registers.h"
#include "cuda/pool.h"
#include "cuda/preprocess.h"

namespace py = pybind11;
namespace cuda = action100m::cuda;
using cuda::Element;

namespace {

constexpr std::size_t kVectorBytes = 16;  // that a thread reads or writes at once

void* as_stream(std::uintptr_t handle) { return reinterpret_cast<void*>(handle); }

std::size_t bytes_of(Element element) {
  return element == Element::float32 ? 4 : element == Element::uint8 ? 1 : 2;
}

// Prepares frames of any size, and caches the filters of recent sizes.
class Preprocessor {
 public:
  Preprocessor(std::size_t short_side, const std::array<double, 3>& mean,
               const std::array<double, 3>& std)
      : short_side_(short_side), normalisation_(mean, std) {}

  void operator()(const py::object& frames, const py::object& prepared, std::uintptr_t stream) {
    const DeviceArray in = borrow("frames", frames, stream);
    in.require_element({Element::uint8});
    in.require_axes(4, "(b, h, w, 3)");
    in.require_shape({in.shape[0], in.shape[1], in.shape[2], 3});
    const DeviceArray out = borrow("prepared frames", prepared, stream);
    out.require_element({Element::float32, Element::float16, Element::bfloat16});
    out.require_axes(4, "(b, 3, size, size)");
    const std::size_t size = out.shape[3];
    out.require_shape({in.shape[0], 3, size, size});
    out.require_device_of(in);
    out.require_alignment(kVectorBytes);
    if (size % 8 != 0) {
      throw py::value_error("A crop on a GPU must have a multiple of 8 columns, not " +
                            std::to_string(size) + ".");
    }
    const py::gil_scoped_release release;
    const auto preprocess =
        for_frames({in.device, in.shape[1], in.shape[2], size}, as_stream(stream));
    (*preprocess)(static_cast<const std::uint8_t*>(in.data), in.shape[0], out.data, out.element,
                  as_stream(stream));
  }

 private:
  using Key = std::tuple<int, std::size_t, std::size_t, std::size_t>;
  using Shared = std::shared_ptr<const cuda::Preprocessor>;
  static constexpr std::size_t kMostKept = 64;  // filters take kilobytes, but sizes may be endless

  Shared for_frames(const Key& key, void* stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = kept_.find(key);
    if (found != kept_.end()) return found->second;
    const auto [device, height, width, size] = key;
    const auto made = std::make_shared<const cuda::Preprocessor>(
        device, height, width, action100m::centre_crop(height, width, short_side_, size),
        normalisation_, stream);
    if (kept_.size() == kMostKept) kept_.clear();
    kept_.emplace(key, made);
    return made;
  }

  std::size_t short_side_;
  action100m::Normalisation normalisation_;
  std::mutex mutex_;
  std::map<Key, Shared> kept_;
};

void pool(const py::object& tokens, const py::object& pooled, std::uintptr_t stream) {
  const DeviceArray in = borrow("tokens", tokens, stream);
  in.require_element({Element::float32, Element::float16, Element::bfloat16});
  in.require_axes(3, "(b, tokens, d)");
  in.require_alignment(kVectorBytes);
  const DeviceArray out = borrow("pooled tokens", pooled, stream);
  out.require_element({Element::float32});
  out.require_axes(3, "(b, tubelets, d)");
  const std::size_t tubelets = out.shape[1];
  out.require_shape({in.shape[0], tubelets, in.shape[2]});
  out.require_device_of(in);
  if (tubelets == 0 || in.shape[1] == 0 || in.shape[1] % tubelets != 0) {
    throw py::value_error(std::to_string(in.shape[1]) + " tokens cannot be divided evenly among " +
                          std::to_string(tubelets) + " tubelets.");
  }
  if (in.shape[2] == 0 || in.shape[2] * bytes_of(in.element) % kVectorBytes != 0) {
    throw py::value_error("A token must fill a multiple of 16 bytes; " +
                          std::to_string(in.shape[2]) + " values do not.");
  }
  const py::gil_scoped_release release;
  cuda::pool(in.device, in.data, in.element, in.shape[0] * tubelets, in.shape[1] / tubelets,
             in.shape[2], static_cast<float*>(out.data), as_stream(stream));
}

void add_windows(const py::object& pooled, const std::vector<std::int64_t>& starts,
                 const py::object& sums, std::size_t tubelet, std::uintptr_t stream) {
  const DeviceArray in = borrow("pooled tokens", pooled, stream);
  in.require_element({Element::float32});
  in.require_axes(3, "(b, tubelets, d)");
  if (in.shape[0] != starts.size()) {
    throw py::value_error("There are " + std::to_string(in.shape[0]) + " windows, but " +
                          std::to_string(starts.size()) + " starts.");
  }
  const DeviceArray out = borrow("sums", sums, stream);
  out.require_element({Element::float32});
  out.require_axes(2, "(frames, d)");
  out.require_shape({out.shape[0], in.shape[2]});
  out.require_device_of(in);
  const auto last =
      static_cast<std::int64_t>(out.shape[0]) - static_cast<std::int64_t>(in.shape[1] * tubelet);
  for (const std::int64_t start : starts) {
    if (start >= 0 && start <= last) continue;
    throw py::value_error("A window of " + std::to_string(in.shape[1] * tubelet) +
                          " frames that starts at frame " + std::to_string(start) +
                          " does not fit into " + std::to_string(out.shape[0]) + " frames.");
  }
  if (in.shape[1] == 0 || in.shape[2] == 0 || tubelet == 0) return;
  const py::gil_scoped_release release;
  cuda::add_windows(in.device, static_cast<const float*>(in.data), starts, in.shape[1], tubelet,
                    in.shape[2], static_cast<float*>(out.data), as_stream(stream));
}

}  // namespace

void register_cuda(py::module_& module) {
  py::class_<Preprocessor>(module, "Preprocessor", "Resizes, crops and normalises frames.")
      .def(py::init<std::size_t, const std::array<double, 3>&, const std::array<double, 3>&>(),
           py::arg("short_side"), py::arg("mean"), py::arg("std"))
      .def("__call__", &Preprocessor::operator(), py::arg("frames"), py::arg("prepared"),
           py::arg("stream"),
           "(b, h, w, 3) uint8 -> (b, 3, size, size) float32, float16 or bfloat16, in place.");
  module.def("pool", &pool, py::arg("tokens"), py::arg("pooled"), py::arg("stream"),
             "(b, tubelets * places, d) -> means over places (b, tubelets, d) float32, in place.");
  module.def("add_windows", &add_windows, py::arg("pooled"), py::arg("starts"), py::arg("sums"),
             py::arg("tubelet"), py::arg("stream"),
             "Adds (b, tubelets, d), interpolated to frames, to sums (frames, d) float32.");
}

#include "bindings/device_array.h"

#include <algorithm>

namespace py = pybind11;
using action100m::cuda::Element;

namespace {

// DLPack's C structures (ABI 0), to which a capsule named "dltensor" points.
struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

// The values and names are those of DLPack's DLDeviceType and DLDataTypeCode.
constexpr int kDLCUDA = 2;
constexpr int kDLCUDAManaged = 13;
constexpr std::uint8_t kDLUInt = 1;
constexpr std::uint8_t kDLFloat = 2;
constexpr std::uint8_t kDLBfloat = 4;

const char* text(Element element) {
  switch (element) {
    case Element::uint8:
      return "uint8";
    case Element::float16:
      return "float16";
    case Element::bfloat16:
      return "bfloat16";
    default:
      return "float32";
  }
}

Element element_of(const DLDataType& type, const std::string& name) {
  const auto is = [&](std::uint8_t code, std::uint8_t bits) {
    return type.code == code && type.bits == bits && type.lanes == 1;
  };
  if (is(kDLUInt, 8)) return Element::uint8;
  if (is(kDLFloat, 16)) return Element::float16;
  if (is(kDLBfloat, 16)) return Element::bfloat16;
  if (is(kDLFloat, 32)) return Element::float32;
  throw py::type_error("The " + name +
                       " must be uint8, float16, bfloat16 or float32, not DLPack's type " +
                       std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits.");
}

bool contiguous(const DLTensor& tensor, const std::vector<std::size_t>& shape) {
  if (tensor.strides == nullptr || std::find(shape.begin(), shape.end(), 0) != shape.end()) {
    return true;
  }
  std::size_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && tensor.strides[axis] != static_cast<std::int64_t>(expected)) {
      return false;
    }
    expected *= shape[axis];
  }
  return true;
}

std::string joined(const std::vector<std::size_t>& shape) {
  std::string all;
  for (const std::size_t length : shape) all += (all.empty() ? "" : ", ") + std::to_string(length);
  return "(" + all + (shape.size() == 1 ? ",)" : ")");
}

int require_gpu(const char* name, const py::object& object) {
  if (!py::hasattr(object, "__dlpack__") || !py::hasattr(object, "__dlpack_device__")) {
    throw py::type_error("The " + std::string(name) +
                         " must be an array that supports DLPack (torch, CuPy, DALI), not " +
                         std::string(py::str(py::type::of(object).attr("__name__"))) + ".");
  }
  const auto device = py::tuple(object.attr("__dlpack_device__")());
  const int type = py::int_(device[0]);
  if (type != kDLCUDA && type != kDLCUDAManaged) {
    throw py::value_error("The " + std::string(name) + " must be in an NVIDIA GPU's memory.");
  }
  return py::int_(device[1]);
}

}  // namespace

DeviceArray borrow(const char* name, const py::object& object, std::uintptr_t stream) {
  const int device = require_gpu(name, object);
  // In the protocol, 0 is ambiguous and 1 means the default stream.
  py::object lent = object.attr("__dlpack__")(py::arg("stream") = stream == 0 ? 1 : stream);
  // The capsule keeps its name, so that it frees the tensor itself.
  void* pointer = PyCapsule_GetPointer(lent.ptr(), "dltensor");
  if (pointer == nullptr) throw py::error_already_set();
  const DLTensor& tensor = *static_cast<const DLTensor*>(pointer);
  const std::vector<std::size_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  if (!contiguous(tensor, shape)) {
    throw py::value_error("The " + std::string(name) + " must be C-contiguous.");
  }
  return {name,
          std::move(lent),
          static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
          shape,
          element_of(tensor.dtype, name),
          device};
}

void DeviceArray::require_shape(const std::vector<std::size_t>& wanted) const {
  if (shape == wanted) return;
  throw py::value_error("The " + name + " must have shape " + joined(wanted) + ", not " +
                        joined(shape) + ".");
}

void DeviceArray::require_axes(std::size_t count, const char* layout) const {
  if (shape.size() == count) return;
  throw py::value_error("The " + name + " must have shape " + layout + ", not " + joined(shape) +
                        ".");
}

void DeviceArray::require_alignment(std::size_t bytes) const {
  if (reinterpret_cast<std::uintptr_t>(data) % bytes == 0) return;
  throw py::value_error("The " + name + " must start at a multiple of " + std::to_string(bytes) +
                        " bytes.");
}

void DeviceArray::require_device_of(const DeviceArray& other) const {
  if (device == other.device) return;
  throw py::value_error("The " + name + " are on GPU " + std::to_string(device) + ", the " +
                        other.name + " on GPU " + std::to_string(other.device) + ".");
}

void DeviceArray::require_element(std::initializer_list<Element> allowed) const {
  if (std::find(allowed.begin(), allowed.end(), element) != allowed.end()) return;
  std::string names;
  for (const Element one : allowed) names += (names.empty() ? "" : " or ") + std::string(text(one));
  throw py::type_error("The " + name + " must be " + names + ", not " + text(element) + ".");
}

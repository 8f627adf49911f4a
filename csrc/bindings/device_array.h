#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/element.h"

// GPU memory that another library owns (torch, CuPy, DALI), borrowed through DLPack.
struct DeviceArray {
  std::string name;       // of the argument, for error messages
  pybind11::object lent;  // keeps the DLPack tensor alive
  void* data;             // the first element
  std::vector<std::size_t> shape;
  action100m::cuda::Element element;
  int device;

  // These throw ValueError or TypeError if the requirement is not met.
  void require_shape(const std::vector<std::size_t>& wanted) const;
  void require_axes(std::size_t count, const char* layout) const;
  void require_alignment(std::size_t bytes) const;
  void require_device_of(const DeviceArray& other) const;
  void require_element(std::initializer_list<action100m::cuda::Element> allowed) const;
};

// Borrows the memory of `object`; work already queued for it runs before what is queued on `stream`
// later. Throws TypeError if it does not support DLPack or has an unsupported element type, and
// ValueError if it is not on an NVIDIA GPU or not C-contiguous.
DeviceArray borrow(const char* name, const pybind11::object& object, std::uintptr_t stream);

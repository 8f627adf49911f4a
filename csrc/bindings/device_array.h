#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/element.h"

// Memory of a GPU that another library owns (torch, CuPy, DALI), lent through DLPack.
struct DeviceArray {
  std::string name;       // of the argument, for errors
  pybind11::object lent;  // keeps the description alive
  void* data;             // the first element
  std::vector<std::size_t> shape;
  action100m::cuda::Element element;
  int device;

  // Throw ValueError or TypeError with a sentence.
  void require_shape(const std::vector<std::size_t>& wanted) const;
  void require_axes(std::size_t count, const char* layout) const;
  void require_alignment(std::size_t bytes) const;
  void require_device_of(const DeviceArray& other) const;
  void require_element(std::initializer_list<action100m::cuda::Element> allowed) const;
};

// Asks `object` for its memory; work queued for it so far comes before what is queued on `stream`
// later. Throws TypeError if it lends none, or of another kind of number, ValueError if it lies on
// no NVIDIA GPU or is not C-contiguous.
DeviceArray borrow(const char* name, const pybind11::object& object, std::uintptr_t stream);

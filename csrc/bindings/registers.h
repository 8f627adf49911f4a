#pragma once
#include <pybind11/pybind11.h>

void register_cuda(pybind11::module_& module);  // in _cuda; the others are in _core
void register_cut(pybind11::module_& module);
void register_descriptor(pybind11::module_& module);
void register_resample(pybind11::module_& module);
void register_ward(pybind11::module_& module);
void register_words(pybind11::module_& module);

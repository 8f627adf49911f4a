#pragma once
#include <pybind11/pybind11.h>

void register_cuda(pybind11::module_& module);  // of _cuda, the others of _core
void register_cut(pybind11::module_& module);
void register_descriptor(pybind11::module_& module);
void register_resample(pybind11::module_& module);
void register_ward(pybind11::module_& module);
void register_words(pybind11::module_& module);

#pragma once
#include <pybind11/pybind11.h>

void register_cut(pybind11::module_& module);
void register_descriptor(pybind11::module_& module);
void register_ward(pybind11::module_& module);

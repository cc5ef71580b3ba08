#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::quantization {

void bind_quantization(nanobind::module_& m);

}  // namespace seedbed::quantization

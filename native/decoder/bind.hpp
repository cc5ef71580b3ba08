#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::decoder {
void bind_decoder(nanobind::module_& m);
}  // namespace seedbed::decoder

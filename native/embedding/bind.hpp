#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::embedding {

void bind_embedding(nanobind::module_& m);

}  // namespace seedbed::embedding

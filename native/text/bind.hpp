#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::text {
void bind_text(nanobind::module_& m);
}

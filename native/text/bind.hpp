#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::text {
void bind_text(nanobind::module_& m);
void bind_near(nanobind::module_& m);
}

#pragma once
#include <nanobind/nanobind.h>

namespace seedbed::index {
void bind_index(nanobind::module_& m);
void bind_flat(nanobind::module_& m);
void bind_ivf(nanobind::module_& m);
void bind_kmeans(nanobind::module_& m);
void bind_codes(nanobind::module_& m);
void bind_graph(nanobind::module_& m);
void bind_lsh(nanobind::module_& m);
void bind_multivector(nanobind::module_& m);
}  // namespace seedbed::index

#pragma once
#include <nanobind/nanobind.h>

void bind_tokenizer(nanobind::module_& m);

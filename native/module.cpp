// The one native module. Each room binds its own functions; this file only lists the rooms.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "decoder/bind.hpp"
#include "embedding/bind.hpp"
#include "index/bind.hpp"
#include "quantization/bind.hpp"
#include "simd/level.hpp"
#include "text/bind.hpp"
#include "tokenizer/bindings.hpp"

namespace nb = nanobind;

NB_MODULE(_native, m) {
  m.doc() = "Native kernels of Seedbed: torch-free, on NumPy arrays, without the GIL where they work long.";

  m.def("simd_level", [] { return std::string(seedbed::simd::name(seedbed::simd::level())); },
        "The instruction set that kernels use now: scalar, avx2, avx512, avx512vnni or neon.");
  m.def("simd_supported", [] { return std::string(seedbed::simd::name(seedbed::simd::supported())); },
        "The widest instruction set that this processor and this build support.");
  m.def("set_simd_level",
        [](const std::string& wanted) {
          if (!seedbed::simd::set_level(wanted))
            throw nb::value_error(("SIMD level '" + wanted + "' is unknown or not supported by this processor").c_str());
        },
        nb::arg("level"), "Use at most this level from now on (tests force each; not safe while kernels run).");

  seedbed::index::bind_index(m);
  bind_tokenizer(m);
  seedbed::text::bind_text(m);
  seedbed::embedding::bind_embedding(m);
  seedbed::decoder::bind_decoder(m);
  seedbed::quantization::bind_quantization(m);
}

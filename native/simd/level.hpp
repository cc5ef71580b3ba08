// Run-time choice of instruction set: detected once, lowered by the environment variable
// SEEDBED_SIMD or by set_level() so that tests can force every path on one machine.
#pragma once
#include <string>
#include <string_view>

namespace seedbed::simd {

enum class Level { Scalar = 0, Neon = 1, Avx2 = 2, Avx512 = 3, Avx512Vnni = 4 };

Level supported();               // the widest this processor has
Level level();                   // the one in use
bool has_bfloat16();              // dot products of bfloat16, which AVX-512 with VNNI may lack
bool set_level(const std::string& name);  // false if unknown or wider than supported
std::string_view name(Level level);

}  // namespace seedbed::simd

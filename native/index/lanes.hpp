// One source for every instruction set: sixteen numbers that the compiler maps to the registers that a function's
// target has. Everything here is inlined into functions with target attributes.
#pragma once
#include <cstdint>

namespace seedbed::index {

using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using ByteLanes = std::uint8_t __attribute__((vector_size(16), aligned(1), may_alias));
using ShortLanes = std::uint16_t __attribute__((vector_size(32), aligned(2), may_alias));
using IntLanes = std::int32_t __attribute__((vector_size(64), aligned(4), may_alias));

[[gnu::always_inline]] inline Lanes& lanes_at(float* x) { return *reinterpret_cast<Lanes*>(x); }
[[gnu::always_inline]] inline const Lanes& lanes_at(const float* x) { return *reinterpret_cast<const Lanes*>(x); }

// In two steps, for each of which there is an instruction: compilers take a conversion in one step apart into scalars.
[[gnu::always_inline]] inline void widen(const ByteLanes& bytes, IntLanes& out) {
  out = __builtin_convertvector(__builtin_convertvector(bytes, ShortLanes), IntLanes);
}
[[gnu::always_inline]] inline void narrow(const IntLanes& numbers, ByteLanes& out) {
  out = __builtin_convertvector(__builtin_convertvector(numbers, ShortLanes), ByteLanes);
}

template <int kDistance, class V>
[[gnu::always_inline]] inline void swap_lanes(V& x) {
  const IntLanes order = {0 ^ kDistance, 1 ^ kDistance, 2 ^ kDistance,  3 ^ kDistance,  4 ^ kDistance,  5 ^ kDistance,
                          6 ^ kDistance, 7 ^ kDistance, 8 ^ kDistance,  9 ^ kDistance,  10 ^ kDistance, 11 ^ kDistance,
                          12 ^ kDistance, 13 ^ kDistance, 14 ^ kDistance, 15 ^ kDistance};
  x = __builtin_shuffle(x, order);
}

[[gnu::always_inline]] inline float total(const Lanes& x) {
  float sum = 0;
  for (int i = 0; i < 8; ++i) sum += x[i] + x[i + 8];
  return sum;
}

}  // namespace seedbed::index

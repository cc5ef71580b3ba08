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

template <int k, class V>
[[gnu::always_inline]] inline void swap_lanes(V& x) {  // lane i with lane i ^ k
#if defined(__clang__)
  x = __builtin_shufflevector(x, x, 0 ^ k, 1 ^ k, 2 ^ k, 3 ^ k, 4 ^ k, 5 ^ k, 6 ^ k, 7 ^ k, 8 ^ k, 9 ^ k, 10 ^ k, 11 ^ k,
                              12 ^ k, 13 ^ k, 14 ^ k, 15 ^ k);
#else
  const IntLanes order = {0 ^ k, 1 ^ k, 2 ^ k,  3 ^ k,  4 ^ k,  5 ^ k,  6 ^ k,  7 ^ k,
                          8 ^ k, 9 ^ k, 10 ^ k, 11 ^ k, 12 ^ k, 13 ^ k, 14 ^ k, 15 ^ k};
  x = __builtin_shuffle(x, order);
#endif
}

[[gnu::always_inline]] inline float total(const Lanes& x) {
  float sum = 0;
  for (int i = 0; i < 8; ++i) sum += x[i] + x[i + 8];
  return sum;
}

}  // namespace seedbed::index

// Registers of SEEDBED_WIDTH floats in the compiler's own vector types: one source for every instruction set. Included
// in a namespace by kernels.inl.

constexpr std::size_t W = SEEDBED_WIDTH;
typedef float F __attribute__((vector_size(4 * W)));
typedef std::int32_t I __attribute__((vector_size(4 * W)));
typedef std::uint32_t U __attribute__((vector_size(4 * W)));
typedef float F4 __attribute__((vector_size(16)));

#define SEEDBED_INLINE SEEDBED_TARGET __attribute__((always_inline)) inline

SEEDBED_INLINE F load(const float* from) {
  F value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
SEEDBED_INLINE void store(float* to, F value) { __builtin_memcpy(to, &value, sizeof(value)); }
SEEDBED_INLINE U load_words(const std::byte* from) {
  U value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
SEEDBED_INLINE F splat(float value) { return value - F{}; }
SEEDBED_INLINE F load_part(const float* from, std::size_t count) {
  F value{};
  __builtin_memcpy(&value, from, 4 * count);
  return value;
}
// The value in a register: else the compiler reads memory anew for each of its uses, and loads set the pace.
SEEDBED_INLINE F held(F value) {
#if SEEDBED_WIDTH > 4
  __asm__("" : "+v"(value));
#endif
  return value;
}
SEEDBED_INLINE F as_floats(U bits) { return (F)bits; }
SEEDBED_INLINE U as_words(F value) { return (U)value; }
SEEDBED_INLINE F from_integers(I value) { return __builtin_convertvector(value, F); }
SEEDBED_INLINE F larger(F a, F b) { return a > b ? a : b; }

// Four sums in lanes of one: halves are added until four lanes are left.
SEEDBED_INLINE F4 quarter(F v) {
#if SEEDBED_WIDTH == 16
  typedef float F8 __attribute__((vector_size(32)));
  const F8 half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif SEEDBED_WIDTH == 8
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return v;
#endif
}

SEEDBED_INLINE F4 sums(F a, F b, F c, F d) {
  const F4 p = quarter(a), q = quarter(b), r = quarter(c), s = quarter(d);
  const F4 left = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
  const F4 right = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
  return __builtin_shufflevector(left, right, 0, 1, 4, 5) + __builtin_shufflevector(left, right, 2, 3, 6, 7);
}
// In the order of `sums`, so that a lone sum has the same bits as one of four.
SEEDBED_INLINE float sum(F v) {
  const F4 p = quarter(v);
  return (p[0] + p[2]) + (p[1] + p[3]);
}

// e^x to about one unit in the last place for x <= 88; 0 below -87.3 (Cephes's reduction and polynomial).
SEEDBED_INLINE F exponential(F x) {
  const F floor = splat(-87.3365f);
  const F bounded = larger(x < 88.0f ? x : splat(88.0f), floor);
  const F shifted = bounded * 1.44269504f + 12582912.0f;
  const F whole = shifted - 12582912.0f;
  const F rest = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
  F p = splat(1.9875691500e-4f);
  p = p * rest + 1.3981999507e-3f;
  p = p * rest + 8.3334519073e-3f;
  p = p * rest + 4.1665795894e-2f;
  p = p * rest + 1.6666665459e-1f;
  p = p * rest + 5.0000001201e-1f;
  p = p * (rest * rest) + rest + 1.0f;
  const I exponent = ((I)shifted - 0x4B400000) << 23;
  const F value = (F)((I)p + exponent);
  // NaN is neither: it must stay itself.
  return x < floor ? F{} : x == x ? value : x;
}

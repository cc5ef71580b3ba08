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

// Halves are added until four lanes are left.
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

// Of each four lanes the sums of a, b, c and d.
SEEDBED_INLINE F four_sums(F a, F b, F c, F d) {
#if SEEDBED_WIDTH == 16
#define SEEDBED_EACH(x, i, j, k, l)                                                                                 \
  x, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, k + 12, l + 12
#elif SEEDBED_WIDTH == 8
#define SEEDBED_EACH(x, i, j, k, l) x, i, j, k, l, i + 4, j + 4, k + 4, l + 4
#else
#define SEEDBED_EACH(x, i, j, k, l) x, i, j, k, l
#endif
#define SEEDBED_SHUFFLE(...) __builtin_shufflevector(__VA_ARGS__)
  const F p = SEEDBED_SHUFFLE(a, SEEDBED_EACH(b, 0, W, 1, W + 1)) + SEEDBED_SHUFFLE(a, SEEDBED_EACH(b, 2, W + 2, 3, W + 3));
  const F q = SEEDBED_SHUFFLE(c, SEEDBED_EACH(d, 0, W, 1, W + 1)) + SEEDBED_SHUFFLE(c, SEEDBED_EACH(d, 2, W + 2, 3, W + 3));
  return SEEDBED_SHUFFLE(p, SEEDBED_EACH(q, 0, 1, W, W + 1)) + SEEDBED_SHUFFLE(p, SEEDBED_EACH(q, 2, 3, W + 2, W + 3));
#undef SEEDBED_EACH
#undef SEEDBED_SHUFFLE
}

SEEDBED_INLINE F4 sums(F a, F b, F c, F d) { return quarter(four_sums(a, b, c, d)); }
// A lone sum has the same bits as one of four.
SEEDBED_INLINE float sum(F v) { return sums(v, v, v, v)[0]; }

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

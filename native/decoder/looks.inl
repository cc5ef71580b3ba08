// What attention does with keys and values where they lie, float32 or bfloat16. Included by kernels.inl.

// A register of columns at a time: W of float32, or 2 W of bfloat16 as the even and the odd ones.
struct Plain {
  static constexpr std::size_t kParts = 1, kBytes = 4;
  SEEDBED_INLINE static void read(const std::byte* from, F (&to)[kParts]) { __builtin_memcpy(&to[0], from, sizeof(F)); }
  SEEDBED_INLINE static void write(const F (&from)[kParts], float* to) { store(to, from[0]); }
};
struct Half {
  static constexpr std::size_t kParts = 2, kBytes = 2;
  SEEDBED_INLINE static void read(const std::byte* from, F (&to)[kParts]) {
    const U words = load_words(from);
    to[0] = as_floats(words << 16);
    to[1] = as_floats(words & 0xFFFF0000u);
  }
  SEEDBED_INLINE static void write(const F (&from)[kParts], float* to) {
    for (std::size_t lane = 0; lane < W; ++lane) {
      to[2 * lane] = from[0][lane];
      to[2 * lane + 1] = from[1][lane];
    }
  }
};

// One head's part of a row is too short for the processor to guess where the next one lies.
SEEDBED_INLINE void fetch(const std::byte* from, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i);
}

// The last columns, with zeros behind them.
template <class Element>
SEEDBED_INLINE void read_some(const std::byte* from, std::size_t columns, F (&to)[Element::kParts]) {
  std::byte some[4 * W] = {};
  __builtin_memcpy(some, from, columns * Element::kBytes);
  Element::read(some, to);
}

// W sums, of W / 4 registers that `four_sums` made.
SEEDBED_INLINE F all_sums(const F (&fours)[W / 4]) {
#if SEEDBED_WIDTH == 16
  const auto halves = [](F a, F b) SEEDBED_TARGET __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  };
  const F a = halves(fours[0], fours[1]), b = halves(fours[2], fours[3]);
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#elif SEEDBED_WIDTH == 8
  return __builtin_shufflevector(fours[0], fours[1], 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(fours[0], fours[1], 4, 5, 6, 7, 12, 13, 14, 15);
#else
  return fours[0];
#endif
}

// W keys at a time, four of them in registers; beyond the last one it stands in for others.
template <class Element, std::size_t R>
SEEDBED_TARGET void score_rows(const float* queries, std::size_t query_stride, const std::byte* keys,
                               std::size_t key_stride, std::size_t count, std::size_t width, float* out,
                               std::size_t out_stride) {
  constexpr std::size_t kParts = Element::kParts, kColumns = W * kParts;
  const std::size_t whole = width / kColumns * kColumns;
  for (std::size_t first = 0; first < count; first += W) {
    F fours[R][W / 4];
#pragma GCC unroll 4
    for (std::size_t four = 0; four < W / 4; ++four) {
      F total[R][4] = {};
      const std::byte* key[4];
      for (std::size_t i = 0; i < 4; ++i) key[i] = keys + std::min(first + 4 * four + i, count - 1) * key_stride;
      const auto add = [&](std::size_t d, const F (&columns)[4][kParts]) SEEDBED_TARGET __attribute__((always_inline)) {
#pragma GCC unroll 6
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t part = 0; part < kParts; ++part) {
            const F query = held(load(queries + r * query_stride + d + part * W));
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) total[r][i] += query * columns[i][part];
          }
      };
      for (std::size_t i = 0; i < 4; ++i) fetch(key[i] + W * key_stride, width * Element::kBytes);
      F columns[4][kParts];
      for (std::size_t d = 0; d < whole; d += kColumns) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) Element::read(key[i] + d * Element::kBytes, columns[i]);
        add(d, columns);
      }
      if (whole < width) {
        for (std::size_t i = 0; i < 4; ++i)
          read_some<Element>(key[i] + whole * Element::kBytes, width - whole, columns[i]);
        add(whole, columns);
      }
#pragma GCC unroll 6
      for (std::size_t r = 0; r < R; ++r) fours[r][four] = four_sums(total[r][0], total[r][1], total[r][2], total[r][3]);
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      const F sums = all_sums(fours[r]);
      __builtin_memcpy(out + r * out_stride + first, &sums, 4 * std::min(W, count - first));
    }
  }
}

template <class Element, std::size_t R, std::size_t N>
SEEDBED_TARGET void mix_tile(const float* weights, std::size_t weight_stride, const std::byte* values,
                             std::size_t value_stride, std::size_t count, std::size_t columns, const float* scales,
                             float* out, std::size_t out_stride) {
  constexpr std::size_t kParts = Element::kParts, kColumns = W * kParts;
  F total[R][N][kParts] = {};
  for (std::size_t s = 0; s < count; ++s, values += value_stride) {
    fetch(values + 8 * value_stride, columns * Element::kBytes);
    F value[N][kParts];
#pragma GCC unroll 4
    for (std::size_t n = 0; n < N; ++n) {
      if (columns < N * kColumns)
        read_some<Element>(values + n * 4 * W, columns, value[n]);
      else
        Element::read(values + n * 4 * W, value[n]);
    }
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r) {
      const F weight = splat(weights[r * weight_stride + s]);
#pragma GCC unroll 4
      for (std::size_t n = 0; n < N; ++n)
#pragma GCC unroll 2
        for (std::size_t part = 0; part < kParts; ++part) total[r][n][part] += weight * held(value[n][part]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) {
      F scaled[kParts];
      for (std::size_t part = 0; part < kParts; ++part) scaled[part] = total[r][n][part] * scales[r];
      Element::write(scaled, out + r * out_stride + n * kColumns);
    }
}

template <class Element, std::size_t R>
SEEDBED_TARGET void mix_rows(const float* weights, std::size_t weight_stride, const std::byte* values,
                             std::size_t value_stride, std::size_t count, std::size_t width, const float* scales,
                             float* out, std::size_t out_stride) {
  constexpr std::size_t kColumns = W * Element::kParts, N = (W == 16 ? 4 : 2) / Element::kParts;
  std::size_t d = 0;
  for (; d + N * kColumns <= width; d += N * kColumns)
    mix_tile<Element, R, N>(weights, weight_stride, values + d * Element::kBytes, value_stride, count, N * kColumns,
                            scales, out + d, out_stride);
  for (; d < width; d += kColumns)
    mix_tile<Element, R, 1>(weights, weight_stride, values + d * Element::kBytes, value_stride, count,
                            std::min(kColumns, width - d), scales, out + d, out_stride);
}

// work<R>(first row) for all rows, as many at a time as registers hold.
template <std::size_t kMost, class Work>
SEEDBED_INLINE void by_rows(std::size_t rows, Work work) {
  std::size_t r = 0;
  for (; r + kMost <= rows; r += kMost) work.template operator()<kMost>(r);
  switch (rows - r) {
    case 1: return work.template operator()<1>(r);
    case 2: return work.template operator()<2>(r);
    case 3: return work.template operator()<3>(r);
#if SEEDBED_WIDTH == 16
    case 4: return work.template operator()<std::min<std::size_t>(4, kMost)>(r);
    case 5: return work.template operator()<std::min<std::size_t>(5, kMost)>(r);
#endif
    default: return;
  }
}

template <class Element>
SEEDBED_TARGET void score(const float* queries, std::size_t query_stride, std::size_t rows, const std::byte* keys,
                          std::size_t key_stride, std::size_t count, std::size_t width, float* out,
                          std::size_t out_stride) {
  by_rows<W == 16 ? 6 : 2>(rows, [&]<std::size_t R>(std::size_t r) SEEDBED_TARGET {
    score_rows<Element, R>(queries + r * query_stride, query_stride, keys, key_stride, count, width,
                           out + r * out_stride, out_stride);
  });
}

template <class Element>
SEEDBED_TARGET void mix(const float* weights, std::size_t weight_stride, std::size_t rows, const std::byte* values,
                        std::size_t value_stride, std::size_t count, std::size_t width, const float* scales, float* out,
                        std::size_t out_stride) {
  by_rows<4>(rows, [&]<std::size_t R>(std::size_t r) SEEDBED_TARGET {
    mix_rows<Element, R>(weights + r * weight_stride, weight_stride, values, value_stride, count, width, scales + r,
                         out + r * out_stride, out_stride);
  });
}

// Products of rows of activations with rows of weights. Included by kernels.inl.

constexpr std::size_t kMostRows = W == 16 ? 8 : 4;       // of a tile
constexpr std::size_t kPanelBytes = std::size_t{1} << 17;  // of weights that all rows use before the next ones are read

constexpr std::size_t tile_outputs(std::size_t rows) {
  if (W == 16) return rows <= 2 ? 8 : rows <= 4 ? 6 : rows <= 6 ? 4 : 3;
  return rows <= 2 ? 4 : rows == 3 ? 3 : 2;
}

template <std::size_t R, std::size_t N>
SEEDBED_INLINE void finish(const Product& p, std::size_t row, std::size_t output, const F (&total)[R][N]) {
  constexpr std::size_t kAll = R * N;
  const F* all = &total[0][0];
  float found[(kAll + 3) / 4 * 4];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kAll; i += 4) {
    const auto at = [&](std::size_t j) SEEDBED_TARGET { return all[i + j < kAll ? i + j : i]; };
    const F4 four = sums(all[i], at(1), at(2), at(3));
    __builtin_memcpy(found + i, &four, sizeof(four));
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    float* y = p.y + (row + r) * p.y_stride + output;
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; ++n) {
      float value = found[r * N + n];
      if (p.bias) value += p.bias[output + n];
      y[n] = p.add ? y[n] + value : value;
    }
  }
}

template <std::size_t R, std::size_t N>
SEEDBED_TARGET void tile(const Product& p, std::size_t row, std::size_t output) {
  const std::size_t stride = p.stride, columns = p.columns;
  const float* weights = p.weights + output * stride;
  const float* x = p.x + row * p.x_stride;
  F total[R][N] = {};
  std::size_t k = 0;
  for (; k + W <= columns; k += W) {
    F weight[N];
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; ++n) {
      weight[n] = load(weights + n * stride + k);
      if (R <= 2) __builtin_prefetch(weights + (n + N) * stride + k, 0, 2);
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const F value = held(load(x + r * p.x_stride + k));
#pragma GCC unroll 8
      for (std::size_t n = 0; n < N; ++n) total[r][n] += value * weight[n];
    }
  }
  if (k < columns)
    for (std::size_t r = 0; r < R; ++r)
      for (std::size_t n = 0; n < N; ++n)
        total[r][n] += load(x + r * p.x_stride + k) * load_part(weights + n * stride + k, columns - k);
  finish<R, N>(p, row, output, total);
}

// `R` rows times outputs [from, to).
template <std::size_t R>
SEEDBED_TARGET void few_rows(const Product& p, std::size_t row, std::size_t from, std::size_t to) {
  constexpr std::size_t N = tile_outputs(R);
  for (; from + N <= to; from += N) tile<R, N>(p, row, from);
  for (; from < to; ++from) tile<R, 1>(p, row, from);
}

SEEDBED_TARGET void rest_of_rows(const Product& p, std::size_t row, std::size_t from, std::size_t to) {
  switch (p.rows - row) {
    case 1: return few_rows<1>(p, row, from, to);
    case 2: return few_rows<2>(p, row, from, to);
    case 3: return few_rows<3>(p, row, from, to);
#if SEEDBED_WIDTH == 16
    case 4: return few_rows<4>(p, row, from, to);
    case 5: return few_rows<5>(p, row, from, to);
    case 6: return few_rows<6>(p, row, from, to);
    case 7: return few_rows<7>(p, row, from, to);
#endif
    default: return;
  }
}

SEEDBED_TARGET void product(const Product& p) {
  const std::size_t panel = std::max(kFloatOutputs, kPanelBytes / (4 * p.stride) / kFloatOutputs * kFloatOutputs);
  for (std::size_t first = 0; first < p.outputs; first += panel) {
    const std::size_t last = std::min(p.outputs, first + panel);
    std::size_t row = 0;
    for (; row + kMostRows <= p.rows; row += kMostRows) few_rows<kMostRows>(p, row, first, last);
    rest_of_rows(p, row, first, last);
  }
}


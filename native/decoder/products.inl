// Products of rows of activations with rows of weights. Included by kernels.inl.

constexpr std::size_t kMostRows = W == 16 ? 8 : 4;       // of a tile
constexpr std::size_t kPanelBytes = std::size_t{1} << 17;  // of weights that all rows use before the next ones are read

constexpr std::size_t tile_outputs(std::size_t rows) {
  if (W == 16) return rows <= 2 ? 8 : rows <= 4 ? 6 : rows <= 6 ? 4 : 3;
  return rows <= 2 ? 4 : rows == 3 ? 3 : 2;
}

template <std::size_t R, std::size_t N>
SEEDBED_INLINE void finish(const Product& p, std::size_t row, std::size_t output, const F (&total)[R][N]) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    float* y = p.y + (row + r) * p.y_stride + output;
    float found[(N + 3) / 4 * 4];
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; n += 4) {
      const auto at = [&](std::size_t i) SEEDBED_TARGET { return total[r][n + i < N ? n + i : n]; };
      const F4 four = sums(total[r][n], at(1), at(2), at(3));
      __builtin_memcpy(found + n, &four, sizeof(four));
    }
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; ++n) {
      float value = found[n];
      if (p.bias) value += p.bias[output + n];
      y[n] = p.add ? y[n] + value : value;
    }
  }
}

template <std::size_t R, std::size_t N>
SEEDBED_TARGET void tile(const Product& p, std::size_t row, std::size_t output) {
  const std::size_t stride = p.matrix.stride / 4, columns = p.matrix.columns;
  const float* weights = reinterpret_cast<const float*>(p.matrix.data) + output * stride;
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

SEEDBED_TARGET void float_product(const Product& p, std::size_t from, std::size_t to) {
  const std::size_t panel = std::max(kPanelRows, kPanelBytes / p.matrix.stride / kPanelRows * kPanelRows);
  for (std::size_t first = from; first < to; first += panel) {
    const std::size_t last = std::min(to, first + panel);
    std::size_t row = 0;
    for (; row + kMostRows <= p.rows; row += kMostRows) few_rows<kMostRows>(p, row, first, last);
    rest_of_rows(p, row, first, last);
  }
}

// Columns [16 part, 16 part + 16) of a block, W of them from `first`, before scaling.
template <Format format>
SEEDBED_INLINE F unpacked(U words, std::size_t part) {
  if constexpr (format == Format::BFloat16) return as_floats(part ? words & 0xFFFF0000u : words << 16);
  if constexpr (format == Format::Int8) {
    return from_integers((I)(words << static_cast<std::uint32_t>(24 - 8 * part)) >> 24);
  }
  return from_integers((I)((words >> static_cast<std::uint32_t>(4 * part)) & 15u) - 8);
}

// The float16 scales of a row; what is infinite or NaN becomes NaN.
SEEDBED_TARGET void read_scales(const Matrix& matrix, std::size_t output, float* scales) {
  typedef std::uint16_t Halves __attribute__((vector_size(2 * W)));
  const std::byte* at = matrix.data + output * matrix.stride + matrix.scales_at();
  const std::size_t count = matrix.padded() / kScaled;
  for (std::size_t i = 0; i < count; i += W) {  // rows end in padding
    Halves halves;
    __builtin_memcpy(&halves, at + 2 * i, sizeof(halves));
    const U bits = __builtin_convertvector(halves, U), size = bits & 0x7FFFu;
    F value = as_floats(size << 13) * 0x1p112f;
    value = size < 0x7C00u ? value : splat(std::numeric_limits<float>::quiet_NaN());
    store(scales + i, as_floats(as_words(value) | ((bits & 0x8000u) << 16)));
  }
}

template <Format format, std::size_t R, std::size_t N>
SEEDBED_TARGET void packed_tile(const Product& p, std::size_t row, std::size_t output, float* scratch) {
  constexpr std::size_t kColumns = block_columns(format), kParts = kColumns / kWords;
  const Matrix& matrix = p.matrix;
  const std::size_t padded = matrix.padded(), groups = scale_count(matrix);
  const std::byte* weights = matrix.data + output * matrix.stride;
  const float* x = p.x + row * p.x_stride;
  if constexpr (format != Format::BFloat16)
    for (std::size_t n = 0; n < N; ++n) {
      read_scales(matrix, output + n, scratch + n * groups);
      const std::byte* next = weights + (n + N) * matrix.stride + matrix.scales_at();
      for (std::size_t i = 0; i < 2 * groups; i += 64) __builtin_prefetch(next + i, 0, 2);
    }
  F total[R][N] = {};
  for (std::size_t k = 0; k < padded; k += kColumns, weights += 4 * kWords) {
    U words[N][kWords / W];
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; ++n) {
#pragma GCC unroll 8
      for (std::size_t h = 0; h < kWords / W; ++h) words[n][h] = load_words(weights + n * matrix.stride + 4 * h * W);
      __builtin_prefetch(weights + (n + N) * matrix.stride, 0, 2);
    }
#pragma GCC unroll 8
    for (std::size_t part = 0; part < kParts; ++part)
#pragma GCC unroll 8
      for (std::size_t h = 0; h < kWords / W; ++h) {
        F weight[N];
#pragma GCC unroll 8
        for (std::size_t n = 0; n < N; ++n) {
          weight[n] = unpacked<format>(words[n][h], part);
          if constexpr (format != Format::BFloat16) weight[n] *= scratch[n * groups + k / kScaled + part / 2];
        }
#pragma GCC unroll 8
        for (std::size_t r = 0; r < R; ++r) {
          const F value = held(load(x + r * p.x_stride + k + part * kWords + h * W));
#pragma GCC unroll 8
          for (std::size_t n = 0; n < N; ++n) total[r][n] += value * weight[n];
        }
      }
  }
  finish<R, N>(p, row, output, total);
}

template <Format format, std::size_t R>
SEEDBED_TARGET void few_packed_rows(const Product& p, std::size_t row, float* scratch) {
  constexpr std::size_t N = 4;
  std::size_t output = 0;
  for (; output + N <= p.matrix.outputs; output += N) packed_tile<format, R, N>(p, row, output, scratch);
  for (; output < p.matrix.outputs; ++output) packed_tile<format, R, 1>(p, row, output, scratch);
}

template <Format format>
SEEDBED_TARGET void packed_product(const Product& p, float* scratch) {
  switch (p.rows) {
    case 1: return few_packed_rows<format, 1>(p, 0, scratch);
    case 2: return few_packed_rows<format, 2>(p, 0, scratch);
    case 3:
      few_packed_rows<format, 2>(p, 0, scratch);
      return few_packed_rows<format, 1>(p, 2, scratch);
    default: return few_packed_rows<format, 4>(p, 0, scratch);
  }
}

template <Format format>
SEEDBED_TARGET void unpack_rows(const Matrix& matrix, float* out, std::size_t stride, std::size_t columns,
                                float* scales) {
  constexpr std::size_t kColumns = block_columns(format);
  for (std::size_t n = 0; n < matrix.outputs; ++n, out += stride) {
    const std::byte* weights = matrix.data + n * matrix.stride;
    if constexpr (format != Format::BFloat16) read_scales(matrix, n, scales);
    for (std::size_t k = 0; k < columns; k += kWords) {
      for (std::size_t h = 0; h < kWords / W; ++h) {
        const std::size_t column = k + h * W, part = k % kColumns / kWords;
        if (column >= columns) break;
        F value = unpacked<format>(load_words(weights + (k / kColumns * kWords + h * W) * 4), part);
        if constexpr (format != Format::BFloat16) value *= scales[k / kScaled];
        __builtin_memcpy(out + column, &value, 4 * std::min(W, columns - column));
      }
    }
  }
}

SEEDBED_TARGET void unpack_with(const Matrix& matrix, std::size_t columns, float* out, std::size_t stride,
                                float* scales) {
  if (matrix.format == Format::BFloat16) return unpack_rows<Format::BFloat16>(matrix, out, stride, columns, scales);
  if (matrix.format == Format::Int8) return unpack_rows<Format::Int8>(matrix, out, stride, columns, scales);
  unpack_rows<Format::Int4>(matrix, out, stride, columns, scales);
}

SEEDBED_TARGET void unpack(const Matrix& matrix, std::size_t columns, float* out, std::size_t stride) {
  std::vector<float> scales(scale_count(matrix));
  unpack_with(matrix, columns, out, stride, scales.data());
}

// Packed weights of more rows than fill a tile are unpacked once for all of them.
SEEDBED_TARGET void product(const Product& p, float* scratch) {
  if (p.matrix.format == Format::Float32) return float_product(p, 0, p.matrix.outputs);
  if (p.rows <= 4) {
    if (p.matrix.format == Format::BFloat16) return packed_product<Format::BFloat16>(p, scratch);
    if (p.matrix.format == Format::Int8) return packed_product<Format::Int8>(p, scratch);
    return packed_product<Format::Int4>(p, scratch);
  }
  const std::size_t stride = round_up(p.matrix.columns, kWords);
  float* panel = scratch + scale_count(p.matrix);
  const std::size_t rows = std::max<std::size_t>(kPanelRows, kScratch / 2 / stride / kPanelRows * kPanelRows);
  for (std::size_t first = 0; first < p.matrix.outputs; first += rows) {
    Product part = p;
    part.matrix.outputs = std::min(rows, p.matrix.outputs - first);
    part.matrix.data += first * p.matrix.stride;
    unpack_with(part.matrix, p.matrix.columns, panel, stride, scratch);
    part.matrix = {Format::Float32, reinterpret_cast<const std::byte*>(panel), part.matrix.outputs, p.matrix.columns,
                   4 * stride};
    part.y += first;
    if (part.bias) part.bias += first;
    float_product(part, 0, part.matrix.outputs);
  }
}

#include "simd/int8_products.hpp"

#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

constexpr std::size_t kQuads = kBlock / kQuad, kPanelBytes = kPanel * kBlock;

// One body; each level compiles it for its own registers.
[[gnu::always_inline]] inline void quantise(const float* row, std::size_t blocks, std::int8_t* values, float* scales,
                                            std::int32_t* corrections) {
  for (std::size_t b = 0; b < blocks; ++b, row += kBlock, values += kBlock) {
    float largest = 0;
    for (std::size_t i = 0; i < kBlock; ++i) largest = std::fmax(largest, std::fabs(row[i]));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const auto value = static_cast<std::int32_t>(std::nearbyint(row[i] * inverse));
      values[i] = static_cast<std::int8_t>(value);
      sum += value;
    }
    scales[b] = largest / 127.0f;
    corrections[b] = -128 * sum;
  }
}

void quantise_scalar(const float* row, std::size_t blocks, std::int8_t* values, float* scales, std::int32_t* corrections) {
  quantise(row, blocks, values, scales, corrections);
}

// Sums of integers are exact, so that levels differ by how they add floats up alone.
[[gnu::always_inline]] inline void multiply(const Int8Rows& rows, std::size_t row_count, const Int8Panel& panel,
                                            std::size_t blocks, const float* bias, float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < row_count; ++r) {
    float total[kPanel];
    for (std::size_t n = 0; n < kPanel; ++n) total[n] = bias ? bias[n] : 0.0f;
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::int8_t* x = rows.values + (r * blocks + b) * kBlock;
      const std::uint8_t* w = panel.values + b * kPanelBytes;
      std::int32_t sums[kPanel];
      for (std::size_t n = 0; n < kPanel; ++n) sums[n] = rows.corrections[r * blocks + b];
      for (std::size_t q = 0; q < kQuads; ++q)
        for (std::size_t n = 0; n < kPanel; ++n)
          for (std::size_t i = 0; i < kQuad; ++i) sums[n] += x[q * kQuad + i] * w[(q * kPanel + n) * kQuad + i];
      for (std::size_t n = 0; n < kPanel; ++n)
        total[n] += static_cast<float>(sums[n]) * (rows.scales[r * blocks + b] * panel.scales[b * kPanel + n]);
    }
    for (std::size_t n = 0; n < kPanel; ++n) out[r * out_stride + n] = total[n];
  }
}

void multiply_scalar(const Int8Rows& rows, std::size_t row_count, const Int8Panel& panel, std::size_t blocks,
                     const float* bias, float* out, std::size_t out_stride) {
  multiply(rows, row_count, panel, blocks, bias, out, out_stride);
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")))

SEEDBED_AVX2 void quantise_avx2(const float* row, std::size_t blocks, std::int8_t* values, float* scales,
                                std::int32_t* corrections) {
  quantise(row, blocks, values, scales, corrections);
}

SEEDBED_VNNI void quantise_vnni(const float* row, std::size_t blocks, std::int8_t* values, float* scales,
                                std::int32_t* corrections) {
  for (std::size_t b = 0; b < blocks; ++b, row += kBlock, values += kBlock) {
    const __m512 low = _mm512_loadu_ps(row), high = _mm512_loadu_ps(row + 16);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + 16), _mm512_cvtepi32_epi8(second));
    scales[b] = largest / 127.0f;
    corrections[b] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
  }
}

// Sixteen outputs in two registers at a time: bytes become 16 bits, which products of pairs cannot overflow.
SEEDBED_AVX2 void multiply_avx2(const Int8Rows& rows, std::size_t row_count, const Int8Panel& panel, std::size_t blocks,
                                const float* bias, float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < row_count; ++r)
    for (std::size_t first = 0; first < kPanel; first += 8) {
      __m256 total = bias ? _mm256_loadu_ps(bias + first) : _mm256_setzero_ps();
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::int8_t* x = rows.values + (r * blocks + b) * kBlock;
        const std::uint8_t* w = panel.values + b * kPanelBytes + first * kQuad;
        __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        for (std::size_t q = 0; q < kQuads; ++q) {
          std::int32_t four;
          __builtin_memcpy(&four, x + q * kQuad, sizeof(four));
          const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + q * kPanel * kQuad));
          const __m256i value = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));  // x0 x1 x2 x3, over and over
          // Bytes 0 and 2 of each output, then 1 and 3, against x0 x2 and x1 x3.
          const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), high = _mm256_srli_epi16(bytes, 8);
          const __m256i pairs = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(value, 0xD8), 0xD8);  // x0 x2 x1 x3
          even = _mm256_add_epi32(even, _mm256_madd_epi16(low, _mm256_shuffle_epi32(pairs, 0xA0)));
          odd = _mm256_add_epi32(odd, _mm256_madd_epi16(high, _mm256_shuffle_epi32(pairs, 0xF5)));
        }
        const __m256i sums = _mm256_add_epi32(_mm256_add_epi32(even, odd),
                                              _mm256_set1_epi32(rows.corrections[r * blocks + b]));
        const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(rows.scales[r * blocks + b]),
                                           _mm256_loadu_ps(panel.scales + b * kPanel + first));
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, total);
      }
      _mm256_storeu_ps(out + r * out_stride + first, total);
    }
}

template <std::size_t R>
SEEDBED_VNNI void tile_vnni(const Int8Rows& rows, const Int8Panel& panel, std::size_t blocks, const float* bias, float* out,
                            std::size_t out_stride) {
  __m512 total[R][2];
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
    total[r][0] = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
    total[r][1] = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
  }
  for (std::size_t b = 0; b < blocks; ++b) {
    __m512i sums[R][2];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r)
      sums[r][0] = sums[r][1] = _mm512_set1_epi32(rows.corrections[r * blocks + b]);
    const std::uint8_t* w = panel.values + b * kPanelBytes;
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kQuads; ++q) {
      const __m512i w0 = _mm512_loadu_si512(w + q * kPanel * kQuad), w1 = _mm512_loadu_si512(w + q * kPanel * kQuad + 64);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < R; ++r) {
        std::int32_t four;
        __builtin_memcpy(&four, rows.values + (r * blocks + b) * kBlock + q * kQuad, sizeof(four));
        const __m512i x = _mm512_set1_epi32(four);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w0, x);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w1, x);
      }
    }
    const __m512 s0 = _mm512_loadu_ps(panel.scales + b * kPanel), s1 = _mm512_loadu_ps(panel.scales + b * kPanel + 16);
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(rows.scales[r * blocks + b]);
      total[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][0]), _mm512_mul_ps(scale, s0), total[r][0]);
      total[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][1]), _mm512_mul_ps(scale, s1), total[r][1]);
    }
  }
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
    _mm512_storeu_ps(out + r * out_stride, total[r][0]);
    _mm512_storeu_ps(out + r * out_stride + 16, total[r][1]);
  }
}

void multiply_vnni(const Int8Rows& rows, std::size_t row_count, const Int8Panel& panel, std::size_t blocks,
                   const float* bias, float* out, std::size_t out_stride) {
  switch (row_count) {
    case 1: return tile_vnni<1>(rows, panel, blocks, bias, out, out_stride);
    case 2: return tile_vnni<2>(rows, panel, blocks, bias, out, out_stride);
    case 3: return tile_vnni<3>(rows, panel, blocks, bias, out, out_stride);
    case 4: return tile_vnni<4>(rows, panel, blocks, bias, out, out_stride);
    case 5: return tile_vnni<5>(rows, panel, blocks, bias, out, out_stride);
    default: return tile_vnni<6>(rows, panel, blocks, bias, out, out_stride);
  }
}

#endif

}  // namespace

Int8Kernel int8_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512Vnni) return {multiply_vnni, quantise_vnni};
  if (level >= Level::Avx2) return {multiply_avx2, quantise_avx2};
#endif
  (void)level;
  return {multiply_scalar, quantise_scalar};
}

}  // namespace seedbed::simd

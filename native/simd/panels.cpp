#include "simd/panels.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"          // registers are passed to inlined functions alone
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace seedbed::simd {
namespace {

constexpr std::size_t kWordBytes = 4 * kPanel;
constexpr std::size_t kInt8Row = kBlock + 8;  // bytes, their scale and their sum
constexpr float kSmallest = 1e-36f;           // whose inverse is finite

// Where products are of floats.
[[gnu::always_inline]] inline void round_to_floats(const float* row, std::size_t blocks, std::byte* rounded) {
  for (std::size_t k = 0; k < blocks * kBlock; ++k) {
    const std::uint32_t bits = static_cast<std::uint32_t>(to_bfloat16(row[k])) << 16;
    std::memcpy(rounded + 4 * k, &bits, 4);
  }
}

[[gnu::always_inline]] inline void round_to_bytes(const float* row, std::size_t blocks, std::byte* rounded) {
  for (std::size_t b = 0; b < blocks; ++b, row += kBlock, rounded += kInt8Row) {
    std::int32_t largest_bits = 0;  // bits of numbers without sign are ordered as they are, NaN last
    for (std::size_t i = 0; i < kBlock; ++i) {
      std::int32_t bits;
      std::memcpy(&bits, row + i, 4);
      largest_bits = std::max(largest_bits, bits & 0x7FFFFFFF);
    }
    const bool finite = largest_bits < 0x7F800000;
    const float largest = std::bit_cast<float>(largest_bits);
    const float inverse = finite && largest > kSmallest ? 127.0f / largest : 0.0f;
    const float scale = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
    std::int8_t values[kBlock];
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const std::int32_t value = inverse == 0 ? 0 : static_cast<std::int32_t>(std::nearbyint(row[i] * inverse));
      values[i] = static_cast<std::int8_t>(value);
      sum += value;
    }
    std::memcpy(rounded, values, kBlock);
    std::memcpy(rounded + kBlock, &scale, 4);
    std::memcpy(rounded + kBlock + 4, &sum, 4);
  }
}

struct Int8Block {  // of a rounded row
  const std::int8_t* values;
  float scale;
  std::int32_t sum;
};

[[gnu::always_inline]] inline Int8Block int8_block(const std::byte* at) {
  Int8Block block{reinterpret_cast<const std::int8_t*>(at), 0, 0};
  std::memcpy(&block.scale, at + kBlock, 4);
  std::memcpy(&block.sum, at + kBlock + 4, 4);
  return block;
}

// Sums of integers are exact, so that levels differ by how they add floats up alone.
template <Packing packing>
void multiply_bytes_scalar(const std::byte* rows, std::size_t count, const std::byte* panel, std::size_t blocks,
                           const float* bias, float* out, std::size_t out_stride) {
  constexpr std::size_t kWords = word_count(packing);
  constexpr std::int32_t kOffset = packing == Packing::Int8 ? 128 : 8;
  for (std::size_t r = 0; r < count; ++r, rows += blocks * kInt8Row) {
    float total[kPanel];
    for (std::size_t n = 0; n < kPanel; ++n) total[n] = bias ? bias[n] : 0.0f;
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::byte* block = panel + b * block_bytes(packing);
      const auto* weights = reinterpret_cast<const std::uint8_t*>(block);
      const Int8Block x = int8_block(rows + b * kInt8Row);
      for (std::size_t n = 0; n < kPanel; ++n) {
        std::int32_t sum = -kOffset * x.sum;
        for (std::size_t q = 0; q < kWords; ++q)
          for (std::size_t i = 0; i < 4; ++i) {
            const int weight = weights[q * kWordBytes + 4 * n + i];
            if constexpr (packing == Packing::Int8)
              sum += x.values[4 * q + i] * weight;
            else
              sum += x.values[4 * q + i] * (weight & 15) + x.values[16 + 4 * q + i] * (weight >> 4);
          }
        std::uint16_t scale;
        std::memcpy(&scale, block + kWords * kWordBytes + 2 * n, 2);
        total[n] += static_cast<float>(sum) * (x.scale * from_half(scale));
      }
    }
    std::copy_n(total, kPanel, out + r * out_stride);
  }
}

// Registers of W floats: sums of even and of odd columns, N registers of outputs, R rows.
template <std::size_t W>
struct Registers {
  typedef float F __attribute__((vector_size(4 * W)));
  typedef std::uint32_t U __attribute__((vector_size(4 * W)));
};

template <std::size_t W, std::size_t R, std::size_t N>
[[gnu::always_inline]] inline void bfloat16_tile(const std::byte* rows, const std::byte* panel, std::size_t blocks,
                                                 const float* bias, float* out, std::size_t out_stride) {
  using F = typename Registers<W>::F;
  using U = typename Registers<W>::U;
  const auto* x = reinterpret_cast<const float*>(rows);
  const std::size_t stride = blocks * kBlock;
  for (std::size_t first = 0; first < kPanel; first += N * W) {
    F even[R][N] = {}, odd[R][N] = {};
    for (std::size_t q = 0; q < blocks * 16; ++q) {
#pragma GCC unroll 4
      for (std::size_t n = 0; n < N; ++n) {
        U words;
        __builtin_memcpy(&words, panel + q * kWordBytes + 4 * (first + n * W), sizeof(words));
        const F low = (F)(words << 16), high = (F)(words & 0xFFFF0000u);
#pragma GCC unroll 6
        for (std::size_t r = 0; r < R; ++r) {
          even[r][n] += low * x[r * stride + 2 * q];
          odd[r][n] += high * x[r * stride + 2 * q + 1];
        }
      }
    }
    for (std::size_t r = 0; r < R; ++r)
      for (std::size_t n = 0; n < N; ++n) {
        F sums = even[r][n] + odd[r][n], start{};
        if (bias) __builtin_memcpy(&start, bias + first + n * W, sizeof(start));
        sums += start;
        __builtin_memcpy(out + r * out_stride + first + n * W, &sums, sizeof(sums));
      }
  }
}

template <std::size_t W>
[[gnu::always_inline]] inline void multiply_bfloat16(const std::byte* rows, std::size_t count, const std::byte* panel,
                                                     std::size_t blocks, const float* bias, float* out,
                                                     std::size_t out_stride) {
  constexpr std::size_t kMost = W == 16 ? 6 : 3, kWide = W == 16 ? 2 : 4, kNarrow = 2;
  std::size_t r = 0;
  for (; r + kMost <= count; r += kMost)
    bfloat16_tile<W, kMost, kNarrow>(rows + r * blocks * kBlock * 4, panel, blocks, bias, out + r * out_stride, out_stride);
  for (; r < count; ++r)
    bfloat16_tile<W, 1, kWide>(rows + r * blocks * kBlock * 4, panel, blocks, bias, out + r * out_stride, out_stride);
}

void round_to_floats_scalar(const float* row, std::size_t blocks, std::byte* rounded) {
  round_to_floats(row, blocks, rounded);
}
void round_to_bytes_scalar(const float* row, std::size_t blocks, std::byte* rounded) {
  round_to_bytes(row, blocks, rounded);
}
void multiply_bfloat16_scalar(const std::byte* rows, std::size_t count, const std::byte* panel, std::size_t blocks,
                              const float* bias, float* out, std::size_t out_stride) {
  multiply_bfloat16<4>(rows, count, panel, blocks, bias, out, out_stride);
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma,f16c")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")))
#define SEEDBED_VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))
#define SEEDBED_BF16 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma")))

SEEDBED_AVX2 void round_to_floats_avx2(const float* row, std::size_t blocks, std::byte* rounded) {
  round_to_floats(row, blocks, rounded);
}
SEEDBED_AVX2 void round_to_bytes_avx2(const float* row, std::size_t blocks, std::byte* rounded) {
  round_to_bytes(row, blocks, rounded);
}
SEEDBED_AVX2 void multiply_bfloat16_avx2(const std::byte* rows, std::size_t count, const std::byte* panel,
                                         std::size_t blocks, const float* bias, float* out, std::size_t out_stride) {
  multiply_bfloat16<8>(rows, count, panel, blocks, bias, out, out_stride);
}
SEEDBED_AVX512 void multiply_bfloat16_avx512(const std::byte* rows, std::size_t count, const std::byte* panel,
                                             std::size_t blocks, const float* bias, float* out, std::size_t out_stride) {
  multiply_bfloat16<16>(rows, count, panel, blocks, bias, out, out_stride);
}

// Eight outputs at a time: bytes become 16 bits, which products of pairs cannot overflow.
template <Packing packing>
SEEDBED_AVX2 void multiply_bytes_avx2(const std::byte* rows, std::size_t count, const std::byte* panel,
                                      std::size_t blocks, const float* bias, float* out, std::size_t out_stride) {
  constexpr std::size_t kWords = word_count(packing);
  for (std::size_t r = 0; r < count; ++r, rows += blocks * kInt8Row)
    for (std::size_t first = 0; first < kPanel; first += 8) {
      __m256 total = bias ? _mm256_loadu_ps(bias + first) : _mm256_setzero_ps();
      for (std::size_t b = 0; b < blocks; ++b) {
        const Int8Block x = int8_block(rows + b * kInt8Row);
        const std::byte* block = panel + b * block_bytes(packing);
        __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        const auto add = [&](__m256i bytes, std::size_t q) SEEDBED_AVX2 {
          std::int32_t four;
          __builtin_memcpy(&four, x.values + 4 * q, sizeof(four));
          const __m256i value = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));  // x0 x1 x2 x3, over and over
          // Bytes 0 and 2 of each output, then 1 and 3, against x0 x2 and x1 x3.
          const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), high = _mm256_srli_epi16(bytes, 8);
          const __m256i pairs = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(value, 0xD8), 0xD8);  // x0 x2 x1 x3
          even = _mm256_add_epi32(even, _mm256_madd_epi16(low, _mm256_shuffle_epi32(pairs, 0xA0)));
          odd = _mm256_add_epi32(odd, _mm256_madd_epi16(high, _mm256_shuffle_epi32(pairs, 0xF5)));
        };
        for (std::size_t q = 0; q < kWords; ++q) {
          const __m256i bytes =
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + q * kWordBytes + 4 * first));
          if constexpr (packing == Packing::Int8) {
            add(bytes, q);
          } else {
            const __m256i halves = _mm256_set1_epi8(15);
            add(_mm256_and_si256(bytes, halves), q);
            add(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), halves), q + 4);
          }
        }
        constexpr std::int32_t kOffset = packing == Packing::Int8 ? -128 : -8;
        const __m256i sums = _mm256_add_epi32(_mm256_add_epi32(even, odd), _mm256_set1_epi32(kOffset * x.sum));
        const __m256 scales = _mm256_cvtph_ps(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + kWords * kWordBytes + 2 * first)));
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(_mm256_set1_ps(x.scale), scales), total);
      }
      _mm256_storeu_ps(out + r * out_stride + first, total);
    }
}

SEEDBED_VNNI void round_to_bytes_vnni(const float* row, std::size_t blocks, std::byte* rounded) {
  const __m512i sizes = _mm512_set1_epi32(0x7FFFFFFF);
  for (std::size_t b = 0; b < blocks; ++b, row += kBlock, rounded += kInt8Row) {
    const __m512 low = _mm512_loadu_ps(row), high = _mm512_loadu_ps(row + 16);
    const __m512i larger = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low), sizes),
                                            _mm512_and_si512(_mm512_castps_si512(high), sizes));
    const std::int32_t bits = _mm512_reduce_max_epi32(larger);
    const bool finite = bits < 0x7F800000;
    const float largest = std::bit_cast<float>(bits);
    const float scale = finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
    const float inverse = finite && largest > kSmallest ? 127.0f / largest : 0.0f;
    const __mmask16 some = inverse == 0 ? 0 : 0xFFFF;
    const __m512i first = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(low, _mm512_set1_ps(inverse)));
    const __m512i second = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(high, _mm512_set1_ps(inverse)));
    const std::int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rounded), _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rounded + 16), _mm512_cvtepi32_epi8(second));
    __builtin_memcpy(rounded + kBlock, &scale, 4);
    __builtin_memcpy(rounded + kBlock + 4, &sum, 4);
  }
}

template <Packing packing, std::size_t R>
SEEDBED_VNNI void bytes_tile_vnni(const std::byte* rows, const std::byte* panel, std::size_t blocks, const float* bias,
                                  float* out, std::size_t out_stride) {
  constexpr std::size_t kWords = word_count(packing);
  const std::size_t stride = blocks * kInt8Row;
  __m512 total[R][2];
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
    total[r][0] = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
    total[r][1] = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
  }
  for (std::size_t b = 0; b < blocks; ++b, rows += kInt8Row, panel += block_bytes(packing)) {
    __m512i sums[R][2];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      constexpr std::int32_t kOffset = packing == Packing::Int8 ? -128 : -8;
      sums[r][0] = sums[r][1] = _mm512_set1_epi32(kOffset * int8_block(rows + r * stride).sum);
    }
    const auto add = [&](__m512i w0, __m512i w1, std::size_t q) SEEDBED_VNNI __attribute__((always_inline)) {
#pragma GCC unroll 6
      for (std::size_t r = 0; r < R; ++r) {
        std::int32_t four;
        __builtin_memcpy(&four, rows + r * stride + 4 * q, sizeof(four));
        const __m512i x = _mm512_set1_epi32(four);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w0, x);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w1, x);
      }
    };
#pragma GCC unroll 8
    for (std::size_t q = 0; q < kWords; ++q) {
      const __m512i w0 = _mm512_loadu_si512(panel + q * kWordBytes), w1 = _mm512_loadu_si512(panel + q * kWordBytes + 64);
      if constexpr (packing == Packing::Int8) {
        add(w0, w1, q);
      } else {
        const __m512i halves = _mm512_set1_epi8(15);
        add(_mm512_and_si512(w0, halves), _mm512_and_si512(w1, halves), q);
        add(_mm512_and_si512(_mm512_srli_epi16(w0, 4), halves), _mm512_and_si512(_mm512_srli_epi16(w1, 4), halves), q + 4);
      }
    }
    const auto* halves = reinterpret_cast<const __m256i*>(panel + kWords * kWordBytes);
    const __m512 s0 = _mm512_cvtph_ps(_mm256_loadu_si256(halves)), s1 = _mm512_cvtph_ps(_mm256_loadu_si256(halves + 1));
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(int8_block(rows + r * stride).scale);
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

SEEDBED_BF16 void round_to_bfloat16(const float* row, std::size_t blocks, std::byte* rounded) {
  for (std::size_t b = 0; b < blocks; ++b, row += kBlock, rounded += 2 * kBlock) {
    const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + 16), _mm512_loadu_ps(row));
    __builtin_memcpy(rounded, &both, sizeof(both));
  }
}

template <std::size_t R>
SEEDBED_BF16 void bfloat16_dot_tile(const std::byte* rows, const std::byte* panel, std::size_t blocks, const float* bias,
                                    float* out, std::size_t out_stride) {
  const std::size_t stride = blocks * kBlock * 2;
  __m512 total[R][2][2];  // of even and of odd words: one chain of sums would be waited for
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r)
    for (auto& part : total[r]) part[0] = part[1] = _mm512_setzero_ps();
  for (std::size_t q = 0; q < blocks * 16; q += 2)
#pragma GCC unroll 2
    for (std::size_t odd = 0; odd < 2; ++odd) {
      __m512bh weights[2];
      __builtin_memcpy(weights, panel + (q + odd) * kWordBytes, sizeof(weights));
#pragma GCC unroll 6
      for (std::size_t r = 0; r < R; ++r) {
        std::int32_t pair;
        __builtin_memcpy(&pair, rows + r * stride + 4 * (q + odd), sizeof(pair));
        const auto x = (__m512bh)_mm512_set1_epi32(pair);
        total[r][odd][0] = _mm512_dpbf16_ps(total[r][odd][0], weights[0], x);
        total[r][odd][1] = _mm512_dpbf16_ps(total[r][odd][1], weights[1], x);
      }
    }
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (std::size_t n = 0; n < 2; ++n) {
      const __m512 sums = _mm512_add_ps(total[r][0][n], total[r][1][n]);
      _mm512_storeu_ps(out + r * out_stride + 16 * n, bias ? _mm512_add_ps(sums, _mm512_loadu_ps(bias + 16 * n)) : sums);
    }
}

// Calls the tile for as many rows as there are.
template <class Tile>
[[gnu::always_inline]] inline void for_rows(std::size_t count, Tile tile) {
  switch (count) {
    case 1: return tile.template operator()<1>();
    case 2: return tile.template operator()<2>();
    case 3: return tile.template operator()<3>();
    case 4: return tile.template operator()<4>();
    case 5: return tile.template operator()<5>();
    default: return tile.template operator()<6>();
  }
}

template <Packing packing>
void multiply_bytes_vnni(const std::byte* rows, std::size_t count, const std::byte* panel, std::size_t blocks,
                         const float* bias, float* out, std::size_t out_stride) {
  for_rows(count, [&]<std::size_t R>() { bytes_tile_vnni<packing, R>(rows, panel, blocks, bias, out, out_stride); });
}

void multiply_bfloat16_dot(const std::byte* rows, std::size_t count, const std::byte* panel, std::size_t blocks,
                           const float* bias, float* out, std::size_t out_stride) {
  for_rows(count, [&]<std::size_t R>() { bfloat16_dot_tile<R>(rows, panel, blocks, bias, out, out_stride); });
}

#endif

template <Packing packing>
PanelKernel bytes_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512Vnni) return {kInt8Row, round_to_bytes_vnni, multiply_bytes_vnni<packing>};
  if (level >= Level::Avx2) return {kInt8Row, round_to_bytes_avx2, multiply_bytes_avx2<packing>};
#endif
  (void)level;
  return {kInt8Row, round_to_bytes_scalar, multiply_bytes_scalar<packing>};
}

PanelKernel bfloat16_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512Vnni && has_bfloat16()) return {2 * kBlock, round_to_bfloat16, multiply_bfloat16_dot};
  if (level >= Level::Avx512) return {4 * kBlock, round_to_floats_avx2, multiply_bfloat16_avx512};
  if (level >= Level::Avx2) return {4 * kBlock, round_to_floats_avx2, multiply_bfloat16_avx2};
#endif
  (void)level;
  return {4 * kBlock, round_to_floats_scalar, multiply_bfloat16_scalar};
}

}  // namespace

PanelKernel panel_kernel(Packing packing, Level level) {
  if (packing == Packing::BFloat16) return bfloat16_kernel(level);
  return packing == Packing::Int8 ? bytes_kernel<Packing::Int8>(level) : bytes_kernel<Packing::Int4>(level);
}

// What is infinite counts as NaN.
float from_half(std::uint16_t half) {
  const std::uint32_t size = half & 0x7FFFu, sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  if (size >= 0x7C00u) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::bit_cast<float>(size << 13) * 0x1p112f) | sign);
}

}  // namespace seedbed::simd

#include "simd/maxsim.hpp"

#include <algorithm>
#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

void keep_largest_scalar(const float* const* rows, const float* columns, std::size_t width, std::size_t dim, const void*,
                         float* best, float* spoiled) {
  for (std::size_t r = 0; r < kMaxSimRows; ++r) {
    float sums[kMaxSimColumns] = {};
    for (std::size_t d = 0; d < dim; ++d)
      for (std::size_t c = 0; c < width; ++c) sums[c] += rows[r][d] * columns[d * width + c];
    for (std::size_t c = 0; c < width; ++c) best[c] = std::max(best[c], sums[c]);
    for (std::size_t c = 0; c < kMaxSimStep; ++c) spoiled[c] += 0.0f * sums[c];
  }
}

float widened(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16, exponent = half >> 10 & 31, fraction = half & 1023u;
  if (exponent == 0) {  // zero, or too small for a leading one
    const float size = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -size : size;
  }
  return std::bit_cast<float>(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13);
}

void widen_scalar(const std::uint16_t* halves, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = widened(halves[i]);
}

void decode_scalar(const std::uint8_t* codes, const float* table, unsigned bits, const float* base, std::size_t groups,
                   float* out) {
  const unsigned mask = (1u << bits) - 1;
  std::size_t d = 0;
  for (std::size_t g = 0; g < groups; ++g, codes += kCodeBytes)
    for (unsigned shift = 0; shift < 8; shift += bits)
      for (std::size_t i = 0; i < kCodeBytes; ++i, ++d) out[d] = base[d] + table[codes[i] >> shift & mask];
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma,f16c")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")))

// kHigh rows with kWide times eight columns: as many sums as the registers hold.
template <std::size_t kHigh, std::size_t kWide>
SEEDBED_AVX2 void keep_part_avx2(const float* const* rows, const float* columns, std::size_t width, std::size_t dim,
                                 const char* next, float* best, float* spoiled) {
  __m256 most[kWide], bad = _mm256_loadu_ps(spoiled);
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kWide; ++c) most[c] = _mm256_loadu_ps(best + 8 * c);
  for (std::size_t top = 0; top < kMaxSimRows; top += kHigh) {
    __m256 sums[kHigh][kWide];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kHigh; ++r)
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kWide; ++c) sums[r][c] = _mm256_setzero_ps();
    for (std::size_t d = 0; d < dim; ++d) {
      _mm_prefetch(next + (d * kMaxSimRows + top) * 4, _MM_HINT_T0);
      __m256 column[kWide];
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kWide; ++c) column[c] = _mm256_loadu_ps(columns + d * width + 8 * c);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kHigh; ++r) {
        const __m256 x = _mm256_broadcast_ss(rows[top + r] + d);
#pragma GCC unroll 4
        for (std::size_t c = 0; c < kWide; ++c) sums[r][c] = _mm256_fmadd_ps(x, column[c], sums[r][c]);
      }
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kHigh; ++r) {
      bad = _mm256_fmadd_ps(sums[r][0], _mm256_setzero_ps(), bad);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kWide; ++c) most[c] = _mm256_max_ps(most[c], sums[r][c]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kWide; ++c) _mm256_storeu_ps(best + 8 * c, most[c]);
  _mm256_storeu_ps(spoiled, bad);
}

void keep_largest_avx2(const float* const* rows, const float* columns, std::size_t width, std::size_t dim, const void* next,
                       float* best, float* spoiled) {
  const auto* const ahead = static_cast<const char*>(next);
  switch (width) {
    case 8: return keep_part_avx2<8, 1>(rows, columns, width, dim, ahead, best, spoiled);
    case 16: return keep_part_avx2<4, 2>(rows, columns, width, dim, ahead, best, spoiled);
    case 24: return keep_part_avx2<4, 3>(rows, columns, width, dim, ahead, best, spoiled);
    default:
      keep_part_avx2<4, 2>(rows, columns, width, dim, ahead, best, spoiled);
      keep_part_avx2<4, 2>(rows, columns + 16, width, dim, ahead, best + 16, spoiled);
  }
}

SEEDBED_AVX2 void widen_avx2(const std::uint16_t* halves, std::size_t count, float* out) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i))));
  widen_scalar(halves + i, count - i, out + i);
}

SEEDBED_AVX2 void decode_avx2(const std::uint8_t* codes, const float* table, unsigned bits, const float* base,
                              std::size_t groups, float* out) {
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>((1u << bits) - 1));
  for (std::size_t g = 0; g < groups; ++g, codes += kCodeBytes)
    for (int shift = 0; shift < 8; shift += static_cast<int>(bits))
      for (std::size_t i = 0; i < kCodeBytes; i += 8, base += 8, out += 8) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i));
        const __m256i code = _mm256_and_si256(_mm256_srl_epi32(_mm256_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift)), mask);
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));  // the sign is the code's fourth bit
        const __m256 weight = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, code), _mm256_permutevar8x32_ps(high, code), upper);
        _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(base), weight));
      }
}

// Eight rows with kWhole times sixteen columns and, if kHalf, eight more.
template <std::size_t kWhole, bool kHalf>
SEEDBED_AVX512 void keep_part_avx512(const float* const* rows, const float* columns, std::size_t dim, const char* next,
                                     float* best, float* spoiled) {
  constexpr std::size_t kWidth = 16 * kWhole + (kHalf ? 8 : 0), kSums = kWhole ? kWhole : 1;
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5], *r6 = rows[6],
              *r7 = rows[7];
  __m512 sums[kMaxSimRows][kSums];
  __m256 halves[kMaxSimRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kMaxSimRows; ++r) {
    halves[r] = _mm256_setzero_ps();
#pragma GCC unroll 2
    for (std::size_t c = 0; c < kSums; ++c) sums[r][c] = _mm512_setzero_ps();
  }
  for (std::size_t d = 0; d < dim; ++d, columns += kWidth) {
    _mm_prefetch(next + d * kMaxSimRows * 4, _MM_HINT_T0);
    __m512 column[kSums];
    __m256 half;
#pragma GCC unroll 2
    for (std::size_t c = 0; c < kWhole; ++c) column[c] = _mm512_loadu_ps(columns + 16 * c);
    if constexpr (kHalf) half = _mm256_loadu_ps(columns + 16 * kWhole);
    const float* const at[kMaxSimRows] = {r0, r1, r2, r3, r4, r5, r6, r7};
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kMaxSimRows; ++r) {
      const __m512 x = _mm512_set1_ps(at[r][d]);
#pragma GCC unroll 2
      for (std::size_t c = 0; c < kWhole; ++c) sums[r][c] = _mm512_fmadd_ps(x, column[c], sums[r][c]);
      if constexpr (kHalf) halves[r] = _mm256_fmadd_ps(_mm512_castps512_ps256(x), half, halves[r]);
    }
  }
  __m256 bad = _mm256_loadu_ps(spoiled);
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kMaxSimRows; ++r)
    bad = _mm256_fmadd_ps(kHalf ? halves[r] : _mm512_castps512_ps256(sums[r][0]), _mm256_setzero_ps(), bad);
  _mm256_storeu_ps(spoiled, bad);
#pragma GCC unroll 2
  for (std::size_t c = 0; c < kWhole; ++c) {
    __m512 most = _mm512_loadu_ps(best + 16 * c);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kMaxSimRows; ++r) most = _mm512_max_ps(most, sums[r][c]);
    _mm512_storeu_ps(best + 16 * c, most);
  }
  if constexpr (kHalf) {
    __m256 most = _mm256_loadu_ps(best + 16 * kWhole);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kMaxSimRows; ++r) most = _mm256_max_ps(most, halves[r]);
    _mm256_storeu_ps(best + 16 * kWhole, most);
  }
}

void keep_largest_avx512(const float* const* rows, const float* columns, std::size_t width, std::size_t dim, const void* next,
                         float* best, float* spoiled) {
  const auto* const ahead = static_cast<const char*>(next);
  switch (width) {
    case 8: return keep_part_avx512<0, true>(rows, columns, dim, ahead, best, spoiled);
    case 16: return keep_part_avx512<1, false>(rows, columns, dim, ahead, best, spoiled);
    case 24: return keep_part_avx512<1, true>(rows, columns, dim, ahead, best, spoiled);
    default: return keep_part_avx512<2, false>(rows, columns, dim, ahead, best, spoiled);
  }
}

SEEDBED_AVX512 void decode_avx512(const std::uint8_t* codes, const float* table, unsigned bits, const float* base,
                                  std::size_t groups, float* out) {
  const __m512 weights = _mm512_loadu_ps(table);
  const __m512i mask = _mm512_set1_epi32(static_cast<int>((1u << bits) - 1));
  for (std::size_t g = 0; g < groups; ++g, codes += kCodeBytes) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    for (unsigned shift = 0; shift < 8; shift += bits, base += 16, out += 16) {
      const __m512i code = _mm512_and_si512(_mm512_srl_epi32(bytes, _mm_cvtsi32_si128(static_cast<int>(shift))), mask);
      _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(base), _mm512_permutexvar_ps(code, weights)));
    }
  }
}

#endif

}  // namespace

MaxSimKernel maxsim_kernel(Level level) {
#if defined(__x86_64__)
  // All processors with AVX2 but one forgotten series convert halves, too.
  const bool halves = __builtin_cpu_supports("f16c");
  if (level >= Level::Avx512) return {keep_largest_avx512, halves ? widen_avx2 : widen_scalar, decode_avx512};
  if (level == Level::Avx2) return {keep_largest_avx2, halves ? widen_avx2 : widen_scalar, decode_avx2};
#endif
  static_cast<void>(level);
  return {keep_largest_scalar, widen_scalar, decode_scalar};
}

}  // namespace seedbed::simd

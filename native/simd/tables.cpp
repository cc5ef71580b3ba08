#include "simd/tables.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

// One body; each level compiles it for its own registers.
[[gnu::always_inline]] inline void products(const float* query, const float* codebooks, std::size_t subspaces,
                                          std::size_t width, std::size_t entries, float* out) {
  for (std::size_t s = 0; s < subspaces; ++s, query += width, codebooks += width * entries, out += entries)
    for (std::size_t e = 0; e < entries; e += 16) {
      float sums[16] = {};
      for (std::size_t d = 0; d < width; ++d)
        for (std::size_t i = 0; i < 16; ++i) sums[i] += query[d] * codebooks[d * entries + e + i];
      for (std::size_t i = 0; i < 16; ++i) out[e + i] = sums[i];
    }
}

[[gnu::always_inline]] inline float least_of_16(const float* values, float sign) {
  float least[8];
  for (std::size_t i = 0; i < 8; ++i) {
    const float a = sign * values[i], b = sign * values[i + 8];
    least[i] = a < b ? a : b;
  }
  for (std::size_t half = 4; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) least[i] = least[i] < least[i + half] ? least[i] : least[i + half];
  return least[0];
}

[[gnu::always_inline]] inline void bytes(const float* tables, std::size_t subspaces, std::uint8_t* out, float* scale,
                                         float* offset) {
  float widest = 1e-30f, sum = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float low = least_of_16(tables + 16 * s, 1), high = -least_of_16(tables + 16 * s, -1);
    widest = high - low > widest ? high - low : widest;
    sum += low;
  }
  const float factor = kLargestEntry / widest;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float low = least_of_16(tables + 16 * s, 1);
    for (std::size_t i = 0; i < 16; ++i)
      out[16 * s + i] = static_cast<std::uint8_t>(static_cast<std::int32_t>((tables[16 * s + i] - low) * factor + 0.5f));
  }
  *scale = widest / kLargestEntry;
  *offset = sum;
}

void products_scalar(const float* query, const float* codebooks, std::size_t subspaces, std::size_t width,
                   std::size_t entries, float* out) {
  products(query, codebooks, subspaces, width, entries, out);
}

void bytes_scalar(const float* values, std::size_t subspaces, std::uint8_t* out, float* scale, float* offset) {
  bytes(values, subspaces, out, scale, offset);
}

std::size_t select_scalar(const float* scores, const float* biases, std::size_t count, float least, std::uint32_t* where,
                          float* kept) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    kept[found] = biases ? scores[i] + biases[i] : scores[i];
    where[found] = static_cast<std::uint32_t>(i);
    found += kept[found] > least;
  }
  return found;
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))

SEEDBED_AVX2 void products_avx2(const float* query, const float* codebooks, std::size_t subspaces, std::size_t width,
                              std::size_t entries, float* out) {
  products(query, codebooks, subspaces, width, entries, out);
}

SEEDBED_AVX2 void bytes_avx2(const float* values, std::size_t subspaces, std::uint8_t* out, float* scale, float* offset) {
  bytes(values, subspaces, out, scale, offset);
}

SEEDBED_AVX2 std::size_t select_avx2(const float* scores, const float* biases, std::size_t count, float least,
                                     std::uint32_t* where, float* kept) {
  const __m256 limit = _mm256_set1_ps(least);
  std::size_t found = 0, i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256 value = _mm256_loadu_ps(scores + i);
    if (biases) value = _mm256_add_ps(value, _mm256_loadu_ps(biases + i));
    auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(value, limit, _CMP_GT_OQ)));
    if (!mask) continue;
    alignas(32) float values[8];
    _mm256_store_ps(values, value);
    for (; mask; mask &= mask - 1) {
      const auto lane = static_cast<std::size_t>(__builtin_ctz(mask));
      kept[found] = values[lane];
      where[found++] = static_cast<std::uint32_t>(i + lane);
    }
  }
  const std::size_t rest = select_scalar(scores + i, biases ? biases + i : nullptr, count - i, least, where + found, kept + found);
  for (std::size_t j = found; j < found + rest; ++j) where[j] += static_cast<std::uint32_t>(i);
  return found + rest;
}

SEEDBED_AVX512 void products_avx512(const float* query, const float* codebooks, std::size_t subspaces, std::size_t width,
                              std::size_t entries, float* out) {
  products(query, codebooks, subspaces, width, entries, out);
}

SEEDBED_AVX512 void bytes_avx512(const float* tables, std::size_t subspaces, std::uint8_t* out, float* scale,
                                 float* offset) {
  float widest = 1e-30f, sum = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m512 table = _mm512_loadu_ps(tables + 16 * s);
    const float low = _mm512_reduce_min_ps(table), high = _mm512_reduce_max_ps(table);
    widest = high - low > widest ? high - low : widest;
    sum += low;
  }
  const __m512 factor = _mm512_set1_ps(kLargestEntry / widest), half = _mm512_set1_ps(0.5f);
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m512 table = _mm512_loadu_ps(tables + 16 * s);
    const __m512 above = _mm512_sub_ps(table, _mm512_set1_ps(_mm512_reduce_min_ps(table)));
    const __m512i whole = _mm512_cvttps_epi32(_mm512_add_ps(_mm512_mul_ps(above, factor), half));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * s), _mm512_cvtepi32_epi8(whole));
  }
  *scale = widest / kLargestEntry;
  *offset = sum;
}

SEEDBED_AVX512 std::size_t select_avx512(const float* scores, const float* biases, std::size_t count, float least,
                                         std::uint32_t* where, float* kept) {
  const __m512 limit = _mm512_set1_ps(least);
  __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; i += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
    const auto here = static_cast<__mmask16>(count - i >= 16 ? 0xFFFF : (1u << (count - i)) - 1);
    __m512 value = _mm512_maskz_loadu_ps(here, scores + i);
    if (biases) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(here, biases + i));
    const __mmask16 good = _mm512_mask_cmp_ps_mask(here, value, limit, _CMP_GT_OQ);
    if (!good) continue;
    _mm512_storeu_ps(kept + found, _mm512_maskz_compress_ps(good, value));
    _mm512_storeu_si512(where + found, _mm512_maskz_compress_epi32(good, at));
    found += static_cast<std::size_t>(__builtin_popcount(good));
  }
  return found;
}

#endif

}  // namespace

TableKernel table_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return {products_avx512, bytes_avx512, select_avx512};
  if (level == Level::Avx2) return {products_avx2, bytes_avx2, select_avx2};
#endif
  static_cast<void>(level);
  return {products_scalar, bytes_scalar, select_scalar};
}

}  // namespace seedbed::simd

#include "simd/products.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

void multiply_scalar(const float* rows, const float* columns, std::size_t dim, float* out) {
  for (std::size_t r = 0; r < kTileRows; ++r) {
    float sums[kTileColumns] = {};
    for (std::size_t d = 0; d < dim; ++d)
      for (std::size_t c = 0; c < kTileColumns; ++c) sums[c] += rows[d * kTileRows + r] * columns[d * kTileColumns + c];
    for (std::size_t c = 0; c < kTileColumns; ++c) out[r * kTileColumns + c] = sums[c];
  }
}

// One body; each level compiles it for its own registers.
[[gnu::always_inline]] inline void keep_lowest(const float* tile, const float* offsets, std::uint32_t first, float* best,
                                               std::uint32_t* where) {
  for (std::size_t r = 0; r < kTile; r += kTileColumns)
    for (std::size_t c = 0; c < kTileColumns; ++c) {
      const float value = offsets[c] - tile[r + c];
      const bool lower = value < best[r + c];
      best[r + c] = lower ? value : best[r + c];
      where[r + c] = lower ? first + static_cast<std::uint32_t>(c) : where[r + c];
    }
}

std::uint32_t lowest_scalar(const float* best, const std::uint32_t* where, float* value) {
  std::size_t least = 0;
  for (std::size_t c = 1; c < kTileColumns; ++c)
    if (best[c] < best[least] || (best[c] == best[least] && where[c] < where[least])) least = c;
  *value = best[least];
  return where[least];
}

void keep_lowest_scalar(const float* tile, const float* offsets, std::uint32_t first, float* best, std::uint32_t* where) {
  keep_lowest(tile, offsets, first, best, where);
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))

SEEDBED_AVX2 void multiply_avx2(const float* rows, const float* columns, std::size_t dim, float* out) {
  constexpr std::size_t high = 6, wide = 16;
  for (std::size_t top = 0; top < kTileRows; top += high)
    for (std::size_t left = 0; left < kTileColumns; left += wide) {
      __m256 sums[high][2];
#pragma GCC unroll 6
      for (std::size_t r = 0; r < high; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
      for (std::size_t d = 0; d < dim; ++d) {
        const __m256 c0 = _mm256_loadu_ps(columns + d * kTileColumns + left);
        const __m256 c1 = _mm256_loadu_ps(columns + d * kTileColumns + left + 8);
#pragma GCC unroll 6
        for (std::size_t r = 0; r < high; ++r) {
          const __m256 x = _mm256_broadcast_ss(rows + d * kTileRows + top + r);
          sums[r][0] = _mm256_fmadd_ps(x, c0, sums[r][0]);
          sums[r][1] = _mm256_fmadd_ps(x, c1, sums[r][1]);
        }
      }
#pragma GCC unroll 6
      for (std::size_t r = 0; r < high; ++r) {
        _mm256_storeu_ps(out + (top + r) * kTileColumns + left, sums[r][0]);
        _mm256_storeu_ps(out + (top + r) * kTileColumns + left + 8, sums[r][1]);
      }
    }
}

SEEDBED_AVX2 void keep_lowest_avx2(const float* tile, const float* offsets, std::uint32_t first, float* best,
                                   std::uint32_t* where) {
  keep_lowest(tile, offsets, first, best, where);
}

SEEDBED_AVX512 void multiply_avx512(const float* rows, const float* columns, std::size_t dim, float* out) {
  __m512 sums[kTileRows][2];
#pragma GCC unroll 12
  for (std::size_t r = 0; r < kTileRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (std::size_t d = 0; d < dim; ++d) {
    const __m512 c0 = _mm512_loadu_ps(columns + d * kTileColumns);
    const __m512 c1 = _mm512_loadu_ps(columns + d * kTileColumns + 16);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const __m512 x = _mm512_set1_ps(rows[d * kTileRows + r]);
      sums[r][0] = _mm512_fmadd_ps(x, c0, sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(x, c1, sums[r][1]);
    }
  }
#pragma GCC unroll 12
  for (std::size_t r = 0; r < kTileRows; ++r) {
    _mm512_storeu_ps(out + r * kTileColumns, sums[r][0]);
    _mm512_storeu_ps(out + r * kTileColumns + 16, sums[r][1]);
  }
}

SEEDBED_AVX512 void keep_lowest_avx512(const float* tile, const float* offsets, std::uint32_t first, float* best,
                                       std::uint32_t* where) {
  const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 2
  for (std::size_t c = 0; c < kTileColumns; c += 16) {
    const __m512 offset = _mm512_loadu_ps(offsets + c);
    const __m512i at = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first + c)), count);
    for (std::size_t r = c; r < kTile; r += kTileColumns) {
      const __m512 value = _mm512_sub_ps(offset, _mm512_loadu_ps(tile + r)), before = _mm512_loadu_ps(best + r);
      const __mmask16 lower = _mm512_cmp_ps_mask(value, before, _CMP_LT_OQ);
      _mm512_mask_storeu_ps(best + r, lower, value);
      _mm512_mask_storeu_epi32(where + r, lower, at);
    }
  }
}

SEEDBED_AVX512 std::uint32_t lowest_avx512(const float* best, const std::uint32_t* where, float* value) {
  const __m512 a = _mm512_loadu_ps(best), b = _mm512_loadu_ps(best + 16);
  const float least = _mm512_reduce_min_ps(_mm512_min_ps(a, b));
  const __m512 wanted = _mm512_set1_ps(least);
  const __m512i none = _mm512_set1_epi32(-1);
  const __m512i at = _mm512_mask_loadu_epi32(none, _mm512_cmp_ps_mask(a, wanted, _CMP_EQ_OQ), where);
  const __m512i on = _mm512_mask_loadu_epi32(none, _mm512_cmp_ps_mask(b, wanted, _CMP_EQ_OQ), where + 16);
  *value = least;
  return static_cast<std::uint32_t>(_mm512_reduce_min_epu32(_mm512_min_epu32(at, on)));
}

#endif

}  // namespace

TileKernel tile_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return {multiply_avx512, keep_lowest_avx512, lowest_avx512};
  if (level == Level::Avx2) return {multiply_avx2, keep_lowest_avx2, lowest_scalar};
#endif
  static_cast<void>(level);
  return {multiply_scalar, keep_lowest_scalar, lowest_scalar};
}

}  // namespace seedbed::simd

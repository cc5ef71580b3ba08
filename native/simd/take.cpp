#include "simd/take.hpp"

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

std::size_t take_scalar(float* values, std::size_t count, float needed, std::uint32_t* positions, float* taken) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; i += kTakeLanes) {
    std::uint32_t any = 0;
    for (std::size_t j = 0; j < kTakeLanes; ++j) any |= values[i + j] >= needed;
    if (any)
      for (std::size_t j = 0; j < kTakeLanes; ++j) {
        positions[found] = static_cast<std::uint32_t>(i + j);
        taken[found] = values[i + j];
        found += values[i + j] >= needed;
      }
  }
  std::fill_n(values, count, 0.0f);
  return found;
}

#if defined(__x86_64__)
__attribute__((target("avx2,bmi"))) std::size_t take_avx2(float* values, std::size_t count, float needed,
                                                          std::uint32_t* positions, float* taken) {
  const __m256 least = _mm256_set1_ps(needed);
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; i += 8) {
    auto mask = static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values + i), least, _CMP_GE_OQ)));
    for (; mask; mask &= mask - 1) {
      const std::size_t place = i + static_cast<std::size_t>(__builtin_ctz(mask));
      positions[found] = static_cast<std::uint32_t>(place);
      taken[found++] = values[place];
    }
    _mm256_storeu_ps(values + i, _mm256_setzero_ps());
  }
  return found;
}

__attribute__((target("avx512f,avx2"))) std::size_t take_avx512(float* values, std::size_t count, float needed,
                                                                std::uint32_t* positions, float* taken) {
  const __m512 least = _mm512_set1_ps(needed);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; i += 16) {
    const __m512 row = _mm512_loadu_ps(values + i);
    _mm512_storeu_ps(values + i, _mm512_setzero_ps());
    const __mmask16 mask = _mm512_cmp_ps_mask(row, least, _CMP_GE_OQ);
    if (!mask) continue;
    // Compressed in a register: a compressing store to memory is microcode on some processors.
    const __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(i)));
    _mm512_storeu_si512(positions + found, _mm512_maskz_compress_epi32(mask, places));
    _mm512_storeu_ps(taken + found, _mm512_maskz_compress_ps(mask, row));
    found += static_cast<std::size_t>(__builtin_popcount(mask));
  }
  return found;
}
#endif

}  // namespace

TakeKernel take_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return take_avx512;
  if (level == Level::Avx2) return take_avx2;
#endif
  static_cast<void>(level);
  return take_scalar;
}

}  // namespace seedbed::simd

// The first of the lowest numbers of a short array.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {

constexpr std::size_t kLowestLanes = 16;  // arrays are padded to a multiple of it

// Each says with `lowest(numbers, count)` which index holds the lowest, count being such a multiple; they are inlined into
// loops of the same target.
struct LowestScalar {
  static std::size_t lowest(const std::uint32_t* numbers, std::size_t count) {
    std::size_t best = 0;
    std::uint32_t least = numbers[0];
    for (std::size_t i = 1; i < count; ++i) {
      const bool lower = numbers[i] < least;
      least = lower ? numbers[i] : least;
      best = lower ? i : best;
    }
    return best;
  }
};

#if defined(__x86_64__)
#define SEEDBED_LOWEST_AVX2 __attribute__((target("avx2,bmi"), always_inline))
#define SEEDBED_LOWEST_AVX512 __attribute__((target("avx512f,avx2,bmi"), always_inline))

struct LowestAvx2 {
  SEEDBED_LOWEST_AVX2 static std::size_t lowest(const std::uint32_t* numbers, std::size_t count) {
    const auto* at = reinterpret_cast<const __m256i*>(numbers);
    __m256i least = _mm256_min_epu32(_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1));
    for (std::size_t i = 2; i < count / 8; ++i) least = _mm256_min_epu32(least, _mm256_loadu_si256(at + i));
    least = _mm256_min_epu32(least, _mm256_permute2x128_si256(least, least, 1));
    least = _mm256_min_epu32(least, _mm256_shuffle_epi32(least, 0x4E));
    least = _mm256_min_epu32(least, _mm256_shuffle_epi32(least, 0xB1));
    for (std::size_t i = 0;; ++i)
      if (const auto mask = static_cast<unsigned>(
              _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_loadu_si256(at + i), least)))))
        return i * 8 + static_cast<std::size_t>(__builtin_ctz(mask));
  }
};

struct LowestAvx512 {
  SEEDBED_LOWEST_AVX512 static std::size_t lowest(const std::uint32_t* numbers, std::size_t count) {
    __m512i least = _mm512_loadu_si512(numbers);
    for (std::size_t i = 16; i < count; i += 16) least = _mm512_min_epu32(least, _mm512_loadu_si512(numbers + i));
    __m256i half = _mm256_min_epu32(_mm512_castsi512_si256(least), _mm512_extracti64x4_epi64(least, 1));
    half = _mm256_min_epu32(half, _mm256_permute2x128_si256(half, half, 1));
    half = _mm256_min_epu32(half, _mm256_shuffle_epi32(half, 0x4E));
    half = _mm256_min_epu32(half, _mm256_shuffle_epi32(half, 0xB1));
    const __m512i wanted = _mm512_broadcastd_epi32(_mm256_castsi256_si128(half));
    for (std::size_t i = 0;; i += 16)
      if (const unsigned mask = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(numbers + i), wanted))
        return i + static_cast<std::size_t>(__builtin_ctz(mask));
  }
};
#endif

}  // namespace seedbed::simd

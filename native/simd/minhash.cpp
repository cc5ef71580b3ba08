#include "simd/minhash.hpp"

#include <algorithm>
#include <iterator>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 takes its own undefined registers for a mistake
#endif
#endif

namespace seedbed::simd {
namespace {

void minima_scalar(const std::uint32_t* values, std::size_t count, const std::uint32_t* multipliers,
                   const std::uint32_t* addends, std::size_t hashes, std::uint32_t* minima) {
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t k = 0; k < hashes; ++k) minima[k] = std::min(minima[k], multipliers[k] * values[i] + addends[k]);
}

#if defined(__x86_64__)
using MinimaOf = void (*)(const std::uint32_t*, std::size_t, const std::uint32_t*, const std::uint32_t*,
                          std::uint32_t*);

// Vectors whose minima stay in registers while all values pass.
constexpr std::size_t kHeld = 4;

__attribute__((target("avx2"))) void minima_avx2(const std::uint32_t* values, std::size_t count,
                                                 const std::uint32_t* multipliers, const std::uint32_t* addends,
                                                 std::size_t hashes, std::uint32_t* minima) {
  constexpr std::size_t kLanes = 8;
  for (std::size_t from = 0; from < hashes; from += kHeld * kLanes) {
    const std::size_t held = std::min(kHeld, (hashes - from) / kLanes);
    __m256i a[kHeld], b[kHeld], least[kHeld];
    for (std::size_t k = 0; k < kHeld; ++k) {
      // What is beyond the end repeats the last vector, so that the loop below has one length.
      const std::size_t at = from + std::min(k, held - 1) * kLanes;
      a[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(multipliers + at));
      b[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(addends + at));
      least[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(minima + at));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const __m256i value = _mm256_set1_epi32(static_cast<int>(values[i]));
      for (std::size_t k = 0; k < kHeld; ++k)
        least[k] = _mm256_min_epu32(least[k], _mm256_add_epi32(_mm256_mullo_epi32(a[k], value), b[k]));
    }
    for (std::size_t k = 0; k < held; ++k)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(minima + from + k * kLanes), least[k]);
  }
}

// `Held` vectors at `from`: what stays in registers leaves no work for vectors that are not there.
template <std::size_t Held>
__attribute__((target("avx512f"))) void hold_avx512(const std::uint32_t* values, std::size_t count,
                                                    const std::uint32_t* multipliers, const std::uint32_t* addends,
                                                    std::uint32_t* minima) {
  __m512i a[Held], b[Held], least[Held];
  for (std::size_t k = 0; k < Held; ++k) {
    a[k] = _mm512_loadu_si512(multipliers + 16 * k);
    b[k] = _mm512_loadu_si512(addends + 16 * k);
    least[k] = _mm512_loadu_si512(minima + 16 * k);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const __m512i value = _mm512_set1_epi32(static_cast<int>(values[i]));
    for (std::size_t k = 0; k < Held; ++k)
      least[k] = _mm512_min_epu32(least[k], _mm512_add_epi32(_mm512_mullo_epi32(a[k], value), b[k]));
  }
  for (std::size_t k = 0; k < Held; ++k) _mm512_storeu_si512(minima + 16 * k, least[k]);
}

void minima_avx512(const std::uint32_t* values, std::size_t count, const std::uint32_t* multipliers,
                   const std::uint32_t* addends, std::size_t hashes, std::uint32_t* minima) {
  constexpr MinimaOf kHolds[] = {nullptr,         hold_avx512<1>, hold_avx512<2>, hold_avx512<3>, hold_avx512<4>,
                                 hold_avx512<5>, hold_avx512<6>, hold_avx512<7>, hold_avx512<8>};
  constexpr std::size_t kMost = std::size(kHolds) - 1;
  for (std::size_t from = 0; from < hashes;) {
    const std::size_t held = std::min(kMost, (hashes - from) / 16);
    kHolds[held](values, count, multipliers + from, addends + from, minima + from);
    from += 16 * held;
  }
}
#endif

}  // namespace

MinimaKernel minima_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return minima_avx512;
  if (level >= Level::Avx2) return minima_avx2;
#endif
  (void)level;
  return minima_scalar;
}

}  // namespace seedbed::simd

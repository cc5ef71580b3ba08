#include "simd/bytes.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

std::int32_t one_scalar(const std::int8_t* query, const std::uint8_t* code, std::size_t bytes) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < bytes; ++i) sum += std::int32_t{query[i]} * code[i];
  return sum;
}

void four_scalar(const std::int8_t* query, const std::uint8_t* const* codes, std::size_t bytes, std::int32_t* out) {
  for (int r = 0; r < 4; ++r) out[r] = one_scalar(query, codes[r], bytes);
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2")))
#define SEEDBED_VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2")))

// Without VNNI bytes are widened first: the products of vpmaddubsw would saturate.
SEEDBED_AVX2 inline __m256i step(__m256i sum, const std::int8_t* query, const std::uint8_t* code) {
  const __m256i q = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(query)));
  const __m256i c = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(code)));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(q, c));
}

SEEDBED_AVX2 inline std::int32_t total(__m256i v) {
  const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i pair = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32(pair, 0xB1)));
}

SEEDBED_AVX2 std::int32_t one_avx2(const std::int8_t* query, const std::uint8_t* code, std::size_t bytes) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0;
  for (std::size_t i = 0; i < bytes; i += 32) {
    s0 = step(s0, query + i, code + i);
    s1 = step(s1, query + i + 16, code + i + 16);
  }
  return total(_mm256_add_epi32(s0, s1));
}

SEEDBED_AVX2 void four_avx2(const std::int8_t* query, const std::uint8_t* const* codes, std::size_t bytes,
                            std::int32_t* out) {
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < bytes; i += 16) {
    s0 = step(s0, query + i, codes[0] + i);
    s1 = step(s1, query + i, codes[1] + i);
    s2 = step(s2, query + i, codes[2] + i);
    s3 = step(s3, query + i, codes[3] + i);
  }
  out[0] = total(s0);
  out[1] = total(s1);
  out[2] = total(s2);
  out[3] = total(s3);
}

SEEDBED_AVX512 inline __m512i step(__m512i sum, const std::int8_t* query, const std::uint8_t* code) {
  const __m512i q = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(query)));
  const __m512i c = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(code)));
  return _mm512_add_epi32(sum, _mm512_madd_epi16(q, c));
}

SEEDBED_AVX512 inline std::int32_t total(__m512i v) {
  return total(_mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)));
}

SEEDBED_AVX512 std::int32_t one_avx512(const std::int8_t* query, const std::uint8_t* code, std::size_t bytes) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0;
  for (std::size_t i = 0; i < bytes; i += 64) {
    s0 = step(s0, query + i, code + i);
    s1 = step(s1, query + i + 32, code + i + 32);
  }
  return total(_mm512_add_epi32(s0, s1));
}

SEEDBED_AVX512 void four_avx512(const std::int8_t* query, const std::uint8_t* const* codes, std::size_t bytes,
                                std::int32_t* out) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < bytes; i += 32) {
    s0 = step(s0, query + i, codes[0] + i);
    s1 = step(s1, query + i, codes[1] + i);
    s2 = step(s2, query + i, codes[2] + i);
    s3 = step(s3, query + i, codes[3] + i);
  }
  out[0] = total(s0);
  out[1] = total(s1);
  out[2] = total(s2);
  out[3] = total(s3);
}

SEEDBED_VNNI std::int32_t one_vnni(const std::int8_t* query, const std::uint8_t* code, std::size_t bytes) {
  __m512i s0 = _mm512_setzero_si512(), s1 = s0;
  std::size_t i = 0;
  for (; i + 128 <= bytes; i += 128) {
    s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(code + i), _mm512_loadu_si512(query + i));
    s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(code + i + 64), _mm512_loadu_si512(query + i + 64));
  }
  if (i < bytes) s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(code + i), _mm512_loadu_si512(query + i));
  return total(_mm512_add_epi32(s0, s1));
}

SEEDBED_VNNI void four_vnni(const std::int8_t* query, const std::uint8_t* const* codes, std::size_t bytes,
                            std::int32_t* out) {
  const std::uint8_t *c0 = codes[0], *c1 = codes[1], *c2 = codes[2], *c3 = codes[3];
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < bytes; i += 64) {
    const __m512i q = _mm512_loadu_si512(query + i);
    s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(c0 + i), q);
    s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(c1 + i), q);
    s2 = _mm512_dpbusd_epi32(s2, _mm512_loadu_si512(c2 + i), q);
    s3 = _mm512_dpbusd_epi32(s3, _mm512_loadu_si512(c3 + i), q);
  }
  // Four totals at once: pairs of lanes, then quarters.
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
  const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
}

#endif

}  // namespace

ByteKernel byte_kernel(Level level) {
#if defined(__x86_64__)
  if (level == Level::Avx512Vnni) return {one_vnni, four_vnni};
  if (level == Level::Avx512) return {one_avx512, four_avx512};
  if (level == Level::Avx2) return {one_avx2, four_avx2};
#endif
  static_cast<void>(level);
  return {one_scalar, four_scalar};
}

}  // namespace seedbed::simd

#include "simd/fastscan.hpp"

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

constexpr std::size_t kLine = 64;
constexpr std::size_t kSegment = 64;  // lines whose sums stay below 2^16 even with entries of eight bits

void sums_scalar(const std::uint8_t* codes, const FastScanTables& tables, std::uint32_t* out) {
  std::fill_n(out, kMembers, 0u);
  for (std::size_t group = 0; group < tables.groups; ++group) {
    const std::uint8_t *row = codes + group * 16, *table = tables.entries + group * 16;
    for (std::size_t j = 0; j < 16; ++j) {
      out[j] += table[row[j] & 15];
      out[j + 16] += table[row[j] >> 4];
    }
  }
}

std::uint32_t estimates_scalar(const std::uint8_t* codes, const FastScanTables& tables, const float* add,
                               const float* scale, const Estimate& estimate, float* out) {
  std::uint32_t sums[kMembers], below = 0;
  sums_scalar(codes, tables, sums);
  for (std::size_t i = 0; i < kMembers; ++i) {
    out[i] = estimate.base + add[i] +
             scale[i] * (estimate.slope * static_cast<float>(sums[i]) + estimate.offset);
    below |= static_cast<std::uint32_t>(out[i] < estimate.limit) << i;
  }
  return below;
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma"), always_inline)) inline
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"), always_inline)) inline

// Sums of the even and the odd bytes of a register, kept apart in 16 bits.
struct Wide2 {
  __m256i even, odd;
};
struct Wide512 {
  __m512i even, odd;
};

SEEDBED_AVX2 void widen(Wide2& sum, __m256i bytes) {
  sum.even = _mm256_add_epi16(sum.even, _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)));
  sum.odd = _mm256_add_epi16(sum.odd, _mm256_srli_epi16(bytes, 8));
}

// The lanes hold different groups of the same members: their total, in the members' order.
SEEDBED_AVX2 __m256i ordered(const Wide2& sum) {
  const __m128i even = _mm_add_epi16(_mm256_castsi256_si128(sum.even), _mm256_extracti128_si256(sum.even, 1));
  const __m128i odd = _mm_add_epi16(_mm256_castsi256_si128(sum.odd), _mm256_extracti128_si256(sum.odd, 1));
  return _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
}

SEEDBED_AVX2 void segment_avx2(const std::uint8_t* codes, const std::uint8_t* tables, std::size_t bytes,
                               std::size_t addable, __m256i* low, __m256i* high) {
  const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
  Wide2 wide_low{zero, zero}, wide_high{zero, zero};
  for (std::size_t at = 0; at < bytes;) {
    const std::size_t end = std::min(bytes, at + 32 * addable);
    __m256i sum_low = zero, sum_high = zero;
    for (; at < end; at += 32) {
      const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + at));
      const __m256i table = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tables + at));
      sum_low = _mm256_add_epi8(sum_low, _mm256_shuffle_epi8(table, _mm256_and_si256(code, nibble)));
      sum_high = _mm256_add_epi8(
          sum_high, _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble)));
    }
    widen(wide_low, sum_low);
    widen(wide_high, sum_high);
  }
  *low = ordered(wide_low);
  *high = ordered(wide_high);
}

// Four registers of eight sums.
SEEDBED_AVX2 void all_avx2(const std::uint8_t* codes, const FastScanTables& tables, __m256i* out) {
  for (int i = 0; i < 4; ++i) out[i] = _mm256_setzero_si256();
  const std::size_t bytes = tables.groups * 16;
  for (std::size_t start = 0; start < bytes; start += kSegment * kLine) {
    __m256i part[2];
    segment_avx2(codes + start, tables.entries + start, std::min(bytes - start, kSegment * kLine), tables.addable,
                 &part[0], &part[1]);
    for (int half = 0; half < 2; ++half) {
      out[2 * half] = _mm256_add_epi32(out[2 * half], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(part[half])));
      out[2 * half + 1] =
          _mm256_add_epi32(out[2 * half + 1], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(part[half], 1)));
    }
  }
}

__attribute__((target("avx2,fma"))) void sums_avx2(const std::uint8_t* codes, const FastScanTables& tables,
                                                   std::uint32_t* out) {
  __m256i sums[4];
  all_avx2(codes, tables, sums);
  for (int i = 0; i < 4; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + i, sums[i]);
}

__attribute__((target("avx2,fma"))) std::uint32_t estimates_avx2(
    const std::uint8_t* codes, const FastScanTables& tables, const float* add, const float* scale,
    const Estimate& estimate, float* out) {
  __m256i sums[4];
  all_avx2(codes, tables, sums);
  const __m256 slope = _mm256_set1_ps(estimate.slope), offset = _mm256_set1_ps(estimate.offset);
  std::uint32_t below = 0;
  for (int i = 0; i < 4; ++i) {
    const __m256 product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[i]), slope, offset);
    const __m256 shift = _mm256_add_ps(_mm256_set1_ps(estimate.base), _mm256_loadu_ps(add + 8 * i));
    const __m256 value = _mm256_fmadd_ps(_mm256_loadu_ps(scale + 8 * i), product, shift);
    _mm256_storeu_ps(out + 8 * i, value);
    const __m256 less = _mm256_cmp_ps(value, _mm256_set1_ps(estimate.limit), _CMP_LT_OQ);
    below |= static_cast<std::uint32_t>(_mm256_movemask_ps(less)) << (8 * i);
  }
  return below;
}

SEEDBED_AVX512 void widen(Wide512& sum, __m512i bytes) {
  sum.even = _mm512_add_epi16(sum.even, _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF)));
  sum.odd = _mm512_add_epi16(sum.odd, _mm512_srli_epi16(bytes, 8));
}

SEEDBED_AVX512 __m256i halved(__m512i v) {
  return _mm256_add_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

SEEDBED_AVX512 void all_avx512(const std::uint8_t* codes, const FastScanTables& tables, __m512i* low, __m512i* high) {
  const __m512i nibble = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
  *low = *high = zero;
  const std::size_t bytes = tables.groups * 16;
  for (std::size_t at = 0; at < bytes;) {
    const std::size_t segment_end = std::min(bytes, at + kSegment * kLine);
    Wide512 wide_low{zero, zero}, wide_high{zero, zero};
    while (at < segment_end) {
      const std::size_t end = std::min(segment_end, at + kLine * tables.addable);
      __m512i sum_low = zero, sum_high = zero;
      for (; at < end; at += kLine) {
        const __m512i code = _mm512_loadu_si512(codes + at), table = _mm512_loadu_si512(tables.entries + at);
        sum_low = _mm512_add_epi8(sum_low, _mm512_shuffle_epi8(table, _mm512_and_si512(code, nibble)));
        sum_high = _mm512_add_epi8(
            sum_high, _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble)));
      }
      widen(wide_low, sum_low);
      widen(wide_high, sum_high);
    }
    const Wide2 half_low{halved(wide_low.even), halved(wide_low.odd)};
    const Wide2 half_high{halved(wide_high.even), halved(wide_high.odd)};
    *low = _mm512_add_epi32(*low, _mm512_cvtepu16_epi32(ordered(half_low)));
    *high = _mm512_add_epi32(*high, _mm512_cvtepu16_epi32(ordered(half_high)));
  }
}

__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))) void sums_avx512(
    const std::uint8_t* codes, const FastScanTables& tables, std::uint32_t* out) {
  __m512i low, high;
  all_avx512(codes, tables, &low, &high);
  _mm512_storeu_si512(out, low);
  _mm512_storeu_si512(out + 16, high);
}

__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))) std::uint32_t estimates_avx512(
    const std::uint8_t* codes, const FastScanTables& tables, const float* add, const float* scale,
    const Estimate& estimate, float* out) {
  __m512i sums[2];
  all_avx512(codes, tables, &sums[0], &sums[1]);
  const __m512 slope = _mm512_set1_ps(estimate.slope), offset = _mm512_set1_ps(estimate.offset);
  std::uint32_t below = 0;
  for (int i = 0; i < 2; ++i) {
    const __m512 product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), slope, offset);
    const __m512 shift = _mm512_add_ps(_mm512_set1_ps(estimate.base), _mm512_loadu_ps(add + 16 * i));
    const __m512 value = _mm512_fmadd_ps(_mm512_loadu_ps(scale + 16 * i), product, shift);
    _mm512_storeu_ps(out + 16 * i, value);
    const __mmask16 less = _mm512_cmp_ps_mask(value, _mm512_set1_ps(estimate.limit), _CMP_LT_OQ);
    below |= static_cast<std::uint32_t>(less) << (16 * i);
  }
  return below;
}

#endif

}  // namespace

FastScanKernel fastscan_kernel(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return {sums_avx512, estimates_avx512};
  if (level == Level::Avx2) return {sums_avx2, estimates_avx2};
#endif
  static_cast<void>(level);
  return {sums_scalar, estimates_scalar};
}

}  // namespace seedbed::simd

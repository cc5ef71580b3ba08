#include "simd/code_scan.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

void products_scalar(const std::uint8_t* codes, std::size_t blocks, std::size_t dim, const std::int8_t* const* queries,
                     std::size_t count, std::int32_t* out, std::size_t stride) {
  for (std::size_t block = 0; block < blocks; ++block)
    for (std::size_t q = 0; q < count; ++q) {
      std::int32_t sums[kScanRows] = {};
      const std::uint8_t* at = codes + block * dim * kScanRows;
      for (std::size_t j = 0; j < dim; j += 4, at += 4 * kScanRows)
        for (std::size_t row = 0; row < kScanRows; ++row)
          for (std::size_t i = 0; i < 4; ++i) sums[row] += (at[4 * row + i] - 128) * queries[q][j + i];
      std::copy_n(sums, kScanRows, out + q * stride + block * kScanRows);
    }
}

std::size_t passing_scalar(const std::int32_t* products, std::size_t rows, const ScanRowBounds& bounds,
                           const ScanQuery& query, float least, std::uint32_t* out, float* uppers) {
  std::size_t found = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    float upper = static_cast<float>(products[row]) * (query.scale * bounds.scales[row]);
    upper += query.length * bounds.errors[row] + query.error * bounds.lengths[row];
    if (bounds.offsets) upper = 2 * upper - bounds.offsets[row];
    if (upper < least) continue;
    out[found] = static_cast<std::uint32_t>(row);
    uppers[found++] = upper;
  }
  return found;
}

#if defined(__x86_64__)

#define SEEDBED_SCAN_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_SCAN_VNNI __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")))

std::int32_t four_codes(const std::int8_t* at) {
  std::int32_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// Products of bytes as |row| times the query under the row's signs: pairs of 127 * 127 fit in 16 bits.
template <std::size_t kQueries>
SEEDBED_SCAN_AVX2 void block_avx2(const std::uint8_t* codes, std::size_t dim, const std::int8_t* const* queries,
                                  std::int32_t* out, std::size_t stride) {
  const __m256i bias = _mm256_set1_epi8(static_cast<char>(-128)), ones = _mm256_set1_epi16(1);
  __m256i sums[kQueries][2];
  for (std::size_t q = 0; q < kQueries; ++q) sums[q][0] = sums[q][1] = _mm256_setzero_si256();
  for (std::size_t j = 0; j < dim; j += 4, codes += 4 * kScanRows)
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256i rows =
          _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half)), bias);
      const __m256i sizes = _mm256_abs_epi8(rows);
      for (std::size_t q = 0; q < kQueries; ++q) {
        const __m256i query = _mm256_sign_epi8(_mm256_set1_epi32(four_codes(queries[q] + j)), rows);
        const __m256i pairs = _mm256_maddubs_epi16(sizes, query);
        sums[q][half] = _mm256_add_epi32(sums[q][half], _mm256_madd_epi16(pairs, ones));
      }
    }
  for (std::size_t q = 0; q < kQueries; ++q)
    for (std::size_t half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + q * stride + 8 * half), sums[q][half]);
}

SEEDBED_SCAN_AVX2 void products_avx2(const std::uint8_t* codes, std::size_t blocks, std::size_t dim,
                                     const std::int8_t* const* queries, std::size_t count, std::int32_t* out,
                                     std::size_t stride) {
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint8_t* at = codes + block * dim * kScanRows;
    std::int32_t* to = out + block * kScanRows;
    std::size_t q = 0;
    for (; q + 4 <= count; q += 4) block_avx2<4>(at, dim, queries + q, to + q * stride, stride);
    for (; q < count; ++q) block_avx2<1>(at, dim, queries + q, to + q * stride, stride);
  }
}

SEEDBED_SCAN_AVX2 std::size_t passing_avx2(const std::int32_t* products, std::size_t rows, const ScanRowBounds& bounds,
                                           const ScanQuery& query, float least, std::uint32_t* out, float* uppers) {
  const __m256 scale = _mm256_set1_ps(query.scale), length = _mm256_set1_ps(query.length);
  const __m256 error = _mm256_set1_ps(query.error), bound = _mm256_set1_ps(least);
  std::size_t found = 0;
  for (std::size_t row = 0; row < rows; row += 8) {
    const __m256 whole = _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(products + row)));
    const __m256 slack = _mm256_fmadd_ps(length, _mm256_loadu_ps(bounds.errors + row),
                                         _mm256_mul_ps(error, _mm256_loadu_ps(bounds.lengths + row)));
    __m256 upper = _mm256_fmadd_ps(whole, _mm256_mul_ps(scale, _mm256_loadu_ps(bounds.scales + row)), slack);
    if (bounds.offsets) upper = _mm256_sub_ps(_mm256_add_ps(upper, upper), _mm256_loadu_ps(bounds.offsets + row));
    unsigned mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(upper, bound, _CMP_NLT_UQ)));
    if (!mask) continue;
    alignas(32) float values[8];
    _mm256_store_ps(values, upper);
    for (; mask; mask &= mask - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(mask));
      out[found] = static_cast<std::uint32_t>(row) + lane;
      uppers[found++] = values[lane];
    }
  }
  return found;
}

// Bytes of rows are taken as unsigned, 128 too large; the sums begin that much lower.
template <std::size_t kQueries, std::size_t kBlocks>
SEEDBED_SCAN_VNNI void tile_vnni(const std::uint8_t* codes, std::size_t dim, const std::int8_t* const* queries,
                                 const std::int32_t* starts, std::int32_t* out, std::size_t stride) {
  const std::size_t block_bytes = dim * kScanRows;
  __m512i sums[kQueries][kBlocks];
  for (std::size_t q = 0; q < kQueries; ++q)
    for (std::size_t b = 0; b < kBlocks; ++b) sums[q][b] = _mm512_set1_epi32(starts[q]);
  for (std::size_t j = 0; j < dim; j += 4, codes += 4 * kScanRows) {
    __m512i rows[kBlocks];
    for (std::size_t b = 0; b < kBlocks; ++b) {
      rows[b] = _mm512_loadu_si512(codes + b * block_bytes);
      if (kQueries < 4) _mm_prefetch(reinterpret_cast<const char*>(codes + b * block_bytes + 1024), _MM_HINT_T0);
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
      const __m512i query = _mm512_set1_epi32(four_codes(queries[q] + j));
      for (std::size_t b = 0; b < kBlocks; ++b) sums[q][b] = _mm512_dpbusd_epi32(sums[q][b], rows[b], query);
    }
  }
  for (std::size_t q = 0; q < kQueries; ++q)
    for (std::size_t b = 0; b < kBlocks; ++b) _mm512_storeu_si512(out + q * stride + b * kScanRows, sums[q][b]);
}

template <std::size_t kQueries, std::size_t kBlocks>
SEEDBED_SCAN_VNNI void tiles_vnni(const std::uint8_t* codes, std::size_t blocks, std::size_t dim,
                                  const std::int8_t* const* queries, const std::int32_t* starts, std::int32_t* out,
                                  std::size_t stride) {
  std::size_t block = 0;
  for (; block + kBlocks <= blocks; block += kBlocks)
    tile_vnni<kQueries, kBlocks>(codes + block * dim * kScanRows, dim, queries, starts, out + block * kScanRows, stride);
  for (; block < blocks; ++block)
    tile_vnni<kQueries, 1>(codes + block * dim * kScanRows, dim, queries, starts, out + block * kScanRows, stride);
}

SEEDBED_SCAN_VNNI void products_vnni(const std::uint8_t* codes, std::size_t blocks, std::size_t dim,
                                     const std::int8_t* const* queries, std::size_t count, std::int32_t* out,
                                     std::size_t stride) {
  std::int32_t starts[kScanQueries];
  for (std::size_t q = 0; q < count; ++q) {
    std::int32_t sum = 0;
    for (std::size_t j = 0; j < dim; ++j) sum += queries[q][j];
    starts[q] = -128 * sum;
  }
  std::size_t q = 0;
  for (; q + 8 <= count; q += 8) tiles_vnni<8, 2>(codes, blocks, dim, queries + q, starts + q, out + q * stride, stride);
  for (; q + 4 <= count; q += 4) tiles_vnni<4, 4>(codes, blocks, dim, queries + q, starts + q, out + q * stride, stride);
  for (; q + 2 <= count; q += 2) tiles_vnni<2, 4>(codes, blocks, dim, queries + q, starts + q, out + q * stride, stride);
  for (; q < count; ++q) tiles_vnni<1, 4>(codes, blocks, dim, queries + q, starts + q, out + q * stride, stride);
}

SEEDBED_SCAN_VNNI std::size_t passing_vnni(const std::int32_t* products, std::size_t rows, const ScanRowBounds& bounds,
                                           const ScanQuery& query, float least, std::uint32_t* out, float* uppers) {
  const __m512 scale = _mm512_set1_ps(query.scale), length = _mm512_set1_ps(query.length);
  const __m512 error = _mm512_set1_ps(query.error), bound = _mm512_set1_ps(least);
  std::size_t found = 0;
  for (std::size_t row = 0; row < rows; row += 16) {
    const __m512 whole = _mm512_cvtepi32_ps(_mm512_loadu_si512(products + row));
    const __m512 slack = _mm512_fmadd_ps(length, _mm512_loadu_ps(bounds.errors + row),
                                         _mm512_mul_ps(error, _mm512_loadu_ps(bounds.lengths + row)));
    __m512 upper = _mm512_fmadd_ps(whole, _mm512_mul_ps(scale, _mm512_loadu_ps(bounds.scales + row)), slack);
    if (bounds.offsets) upper = _mm512_sub_ps(_mm512_add_ps(upper, upper), _mm512_loadu_ps(bounds.offsets + row));
    unsigned mask = _mm512_cmp_ps_mask(upper, bound, _CMP_NLT_UQ);
    if (!mask) continue;
    alignas(64) float values[16];
    _mm512_store_ps(values, upper);
    for (; mask; mask &= mask - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(mask));
      out[found] = static_cast<std::uint32_t>(row) + lane;
      uppers[found++] = values[lane];
    }
  }
  return found;
}

#endif

}  // namespace

ScanKernel scan_kernel(Level level) {
#if defined(__x86_64__)
  if (level == Level::Avx512Vnni) return {products_vnni, passing_vnni};
  if (level >= Level::Avx2) return {products_avx2, passing_avx2};
#endif
  static_cast<void>(level);
  return {products_scalar, passing_scalar};
}

}  // namespace seedbed::simd

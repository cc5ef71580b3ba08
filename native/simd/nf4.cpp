#include "simd/nf4.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace seedbed::simd {
namespace {

constexpr std::size_t kBytes = kNf4Block / 2;  // of a block

void unpack_scalar(const std::uint8_t* codes, const float* scales, std::size_t blocks, float* out) {
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t i = 0; i < kBytes; ++i) {
      const std::uint8_t byte = codes[b * kBytes + i];
      out[b * kNf4Block + 2 * i] = kNf4[byte >> 4] * scales[b];
      out[b * kNf4Block + 2 * i + 1] = kNf4[byte & 15] * scales[b];
    }
}

void multiply_scalar(const float* x, std::size_t rows, const std::uint8_t* codes, const float* scales,
                     std::size_t blocks, std::size_t outputs, float* out, std::size_t out_stride) {
  for (std::size_t o = 0; o < outputs; ++o) {
    float sums[kNf4Rows] = {};
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::uint8_t* bytes = codes + (o * blocks + b) * kBytes;
      const float scale = scales[o * blocks + b];
      for (std::size_t i = 0; i < kBytes; ++i) {
        constexpr std::size_t half = kNf4Group / 2;
        const std::size_t even = b * kNf4Block + i / half * kNf4Group + i % half;
        const float first = kNf4[bytes[i] >> 4] * scale, second = kNf4[bytes[i] & 15] * scale;
        for (std::size_t r = 0; r < rows; ++r) {
          const float* row = x + r * blocks * kNf4Block;
          sums[r] += first * row[even] + second * row[even + half];
        }
      }
    }
    for (std::size_t r = 0; r < rows; ++r) out[r * out_stride + o] = sums[r];
  }
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))

// Eight codes below 16 as their values: each half of the table is looked up, and bit 3 chooses.
SEEDBED_AVX2 inline __m256 values_avx2(__m256i codes, __m256 low, __m256 high) {
  const __m256 choice = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, codes), _mm256_permutevar8x32_ps(high, codes), choice);
}

SEEDBED_AVX2 inline __m256i eight_bytes(const std::uint8_t* from) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}

SEEDBED_AVX2 void unpack_avx2(const std::uint8_t* codes, const float* scales, std::size_t blocks, float* out) {
  const __m256 low = _mm256_loadu_ps(kNf4.data()), high = _mm256_loadu_ps(kNf4.data() + 8);
  for (std::size_t b = 0; b < blocks; ++b) {
    const __m256 scale = _mm256_set1_ps(scales[b]);
    for (std::size_t i = 0; i < kBytes; i += 8) {
      const __m256i bytes = eight_bytes(codes + b * kBytes + i);
      const __m256 even = _mm256_mul_ps(values_avx2(_mm256_srli_epi32(bytes, 4), low, high), scale);
      const __m256 odd =
          _mm256_mul_ps(values_avx2(_mm256_and_si256(bytes, _mm256_set1_epi32(15)), low, high), scale);
      const __m256 left = _mm256_unpacklo_ps(even, odd), right = _mm256_unpackhi_ps(even, odd);
      float* to = out + b * kNf4Block + 2 * i;
      _mm256_storeu_ps(to, _mm256_permute2f128_ps(left, right, 0x20));
      _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(left, right, 0x31));
    }
  }
}

SEEDBED_AVX2 inline float sum_avx2(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

template <std::size_t Rows>
SEEDBED_AVX2 void rows_avx2(const float* x, const std::uint8_t* codes, const float* scales, std::size_t blocks,
                            float* out, std::size_t out_stride) {
  const __m256 low = _mm256_loadu_ps(kNf4.data()), high = _mm256_loadu_ps(kNf4.data() + 8);
  __m256 sums[Rows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < Rows; ++r) sums[r] = _mm256_setzero_ps();
  for (std::size_t b = 0; b < blocks; ++b) {
    const __m256 scale = _mm256_set1_ps(scales[b]);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kBytes; i += 8) {
      const __m256i bytes = eight_bytes(codes + b * kBytes + i);
      const __m256 even = _mm256_mul_ps(values_avx2(_mm256_srli_epi32(bytes, 4), low, high), scale);
      const __m256 odd =
          _mm256_mul_ps(values_avx2(_mm256_and_si256(bytes, _mm256_set1_epi32(15)), low, high), scale);
      const float* group = x + b * kNf4Block + i / 16 * kNf4Group + i % 16;
#pragma GCC unroll 8
      for (std::size_t r = 0; r < Rows; ++r) {
        const float* row = group + r * blocks * kNf4Block;
        sums[r] = _mm256_fmadd_ps(even, _mm256_loadu_ps(row), sums[r]);
        sums[r] = _mm256_fmadd_ps(odd, _mm256_loadu_ps(row + 16), sums[r]);
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) out[r * out_stride] = sum_avx2(sums[r]);
}

SEEDBED_AVX2 void multiply_avx2(const float* x, std::size_t rows, const std::uint8_t* codes, const float* scales,
                                std::size_t blocks, std::size_t outputs, float* out, std::size_t out_stride) {
  constexpr decltype(&rows_avx2<1>) by_count[] = {rows_avx2<1>, rows_avx2<2>, rows_avx2<3>, rows_avx2<4>,
                                                  rows_avx2<5>, rows_avx2<6>, rows_avx2<7>, rows_avx2<8>};
  for (std::size_t o = 0; o < outputs; ++o)
    by_count[rows - 1](x, codes + o * blocks * kBytes, scales + o * blocks, blocks, out + o, out_stride);
}

SEEDBED_AVX512 void unpack_avx512(const std::uint8_t* codes, const float* scales, std::size_t blocks, float* out) {
  const __m512 table = _mm512_loadu_ps(kNf4.data());
  const __m512i left = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i right = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  for (std::size_t b = 0; b < blocks; ++b) {
    const __m512 scaled = _mm512_mul_ps(table, _mm512_set1_ps(scales[b]));
    for (std::size_t i = 0; i < kBytes; i += 16) {
      const __m512i bytes =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + b * kBytes + i)));
      // The lookup reads the low four bits of each index alone.
      const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), scaled);
      const __m512 odd = _mm512_permutexvar_ps(bytes, scaled);
      float* to = out + b * kNf4Block + 2 * i;
      _mm512_storeu_ps(to, _mm512_permutex2var_ps(even, left, odd));
      _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(even, right, odd));
    }
  }
}

template <std::size_t Rows, std::size_t Outputs>
SEEDBED_AVX512 void tile_avx512(const float* x, const std::uint8_t* codes, const float* scales, std::size_t blocks,
                                float* out, std::size_t out_stride) {
  const __m512 table = _mm512_loadu_ps(kNf4.data());
  __m512 sums[Outputs][Rows];
#pragma GCC unroll 2
  for (std::size_t o = 0; o < Outputs; ++o)
#pragma GCC unroll 8
    for (std::size_t r = 0; r < Rows; ++r) sums[o][r] = _mm512_setzero_ps();
  for (std::size_t b = 0; b < blocks; ++b) {
    __m512 scaled[Outputs];
#pragma GCC unroll 2
    for (std::size_t o = 0; o < Outputs; ++o)
      scaled[o] = _mm512_mul_ps(table, _mm512_set1_ps(scales[o * blocks + b]));
#pragma GCC unroll 2
    for (std::size_t i = 0; i < kBytes; i += 16) {
      __m512 even[Outputs], odd[Outputs];
#pragma GCC unroll 2
      for (std::size_t o = 0; o < Outputs; ++o) {
        const std::uint8_t* from = codes + (o * blocks + b) * kBytes + i;
        const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        even[o] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), scaled[o]);
        odd[o] = _mm512_permutexvar_ps(bytes, scaled[o]);
      }
      const float* group = x + b * kNf4Block + 2 * i;
#pragma GCC unroll 8
      for (std::size_t r = 0; r < Rows; ++r) {
        const float* row = group + r * blocks * kNf4Block;
        const __m512 first = _mm512_loadu_ps(row), second = _mm512_loadu_ps(row + 16);
#pragma GCC unroll 2
        for (std::size_t o = 0; o < Outputs; ++o) {
          sums[o][r] = _mm512_fmadd_ps(even[o], first, sums[o][r]);
          sums[o][r] = _mm512_fmadd_ps(odd[o], second, sums[o][r]);
        }
      }
    }
  }
  for (std::size_t o = 0; o < Outputs; ++o)
    for (std::size_t r = 0; r < Rows; ++r) out[r * out_stride + o] = _mm512_reduce_add_ps(sums[o][r]);
}

template <std::size_t Outputs>
using Tile = void (*)(const float*, const std::uint8_t*, const float*, std::size_t, float*, std::size_t);

template <std::size_t Outputs>
Tile<Outputs> tile_of(std::size_t rows) {
  constexpr Tile<Outputs> by_count[] = {tile_avx512<1, Outputs>, tile_avx512<2, Outputs>, tile_avx512<3, Outputs>,
                                        tile_avx512<4, Outputs>, tile_avx512<5, Outputs>, tile_avx512<6, Outputs>,
                                        tile_avx512<7, Outputs>, tile_avx512<8, Outputs>};
  return by_count[rows - 1];
}

void multiply_avx512(const float* x, std::size_t rows, const std::uint8_t* codes, const float* scales,
                     std::size_t blocks, std::size_t outputs, float* out, std::size_t out_stride) {
  const Tile<2> two = tile_of<2>(rows);
  std::size_t o = 0;
  for (; o + 2 <= outputs; o += 2)
    two(x, codes + o * blocks * kBytes, scales + o * blocks, blocks, out + o, out_stride);
  if (o < outputs)
    tile_of<1>(rows)(x, codes + o * blocks * kBytes, scales + o * blocks, blocks, out + o, out_stride);
}

#endif

}  // namespace

Nf4Kernel nf4_kernel([[maybe_unused]] Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return {unpack_avx512, multiply_avx512};
  if (level >= Level::Avx2) return {unpack_avx2, multiply_avx2};
#endif
  return {unpack_scalar, multiply_scalar};
}

}  // namespace seedbed::simd

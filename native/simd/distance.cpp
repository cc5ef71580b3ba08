#include "simd/distance.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace seedbed::simd {
namespace {

// Each instruction set has one step (add a product, or a squared difference) and two loops over it; the
// target attributes let one binary hold them all.

template <bool kSquaredDifference>
float one_scalar(const float* a, const float* b, std::size_t n) {
  float lanes[kLane] = {};
  for (std::size_t i = 0; i < n; i += kLane)
    for (std::size_t j = 0; j < kLane; ++j) {
      const float x = kSquaredDifference ? a[i + j] - b[i + j] : a[i + j];
      lanes[j] += x * (kSquaredDifference ? x : b[i + j]);
    }
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

template <bool kSquaredDifference>
void four_scalar(const float* query, const float* const* rows, std::size_t n, float* out) {
  for (int r = 0; r < 4; ++r) out[r] = one_scalar<kSquaredDifference>(query, rows[r], n);
}

#if defined(__x86_64__)

#define SEEDBED_AVX2 __attribute__((target("avx2,fma")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))

template <bool kSquaredDifference>
SEEDBED_AVX2 inline __m256 step(__m256 sum, __m256 x, __m256 y) {
  if constexpr (kSquaredDifference) {
    const __m256 d = _mm256_sub_ps(x, y);
    return _mm256_fmadd_ps(d, d, sum);
  }
  return _mm256_fmadd_ps(x, y, sum);
}

SEEDBED_AVX2 inline float total(__m256 v) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

template <bool kSquaredDifference>
SEEDBED_AVX2 float one_avx2(const float* a, const float* b, std::size_t n) {
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 = step<kSquaredDifference>(s0, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
    s1 = step<kSquaredDifference>(s1, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
    s2 = step<kSquaredDifference>(s2, _mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
    s3 = step<kSquaredDifference>(s3, _mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
  }
  for (; i < n; i += 8) s0 = step<kSquaredDifference>(s0, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
  return total(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

template <bool kSquaredDifference>
SEEDBED_AVX2 void four_avx2(const float* query, const float* const* rows, std::size_t n, float* out) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  for (std::size_t i = 0; i < n; i += 16) {
    const __m256 x = _mm256_loadu_ps(query + i), y = _mm256_loadu_ps(query + i + 8);
    s0 = step<kSquaredDifference>(s0, x, _mm256_loadu_ps(r0 + i));
    s1 = step<kSquaredDifference>(s1, x, _mm256_loadu_ps(r1 + i));
    s2 = step<kSquaredDifference>(s2, x, _mm256_loadu_ps(r2 + i));
    s3 = step<kSquaredDifference>(s3, x, _mm256_loadu_ps(r3 + i));
    t0 = step<kSquaredDifference>(t0, y, _mm256_loadu_ps(r0 + i + 8));
    t1 = step<kSquaredDifference>(t1, y, _mm256_loadu_ps(r1 + i + 8));
    t2 = step<kSquaredDifference>(t2, y, _mm256_loadu_ps(r2 + i + 8));
    t3 = step<kSquaredDifference>(t3, y, _mm256_loadu_ps(r3 + i + 8));
  }
  out[0] = total(_mm256_add_ps(s0, t0));
  out[1] = total(_mm256_add_ps(s1, t1));
  out[2] = total(_mm256_add_ps(s2, t2));
  out[3] = total(_mm256_add_ps(s3, t3));
}

SEEDBED_AVX512 inline float total(__m512 v) {
  return total(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_maskz_extractf32x8_ps(0xFF, v, 1)));
}

template <bool kSquaredDifference>
SEEDBED_AVX512 inline __m512 step(__m512 sum, __m512 x, __m512 y) {
  if constexpr (kSquaredDifference) {
    const __m512 d = _mm512_sub_ps(x, y);
    return _mm512_fmadd_ps(d, d, sum);
  }
  return _mm512_fmadd_ps(x, y, sum);
}

template <bool kSquaredDifference>
SEEDBED_AVX512 float one_avx512(const float* a, const float* b, std::size_t n) {
  __m512 s0 = _mm512_setzero_ps(), s1 = s0;
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 = step<kSquaredDifference>(s0, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
    s1 = step<kSquaredDifference>(s1, _mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16));
  }
  if (i < n) s0 = step<kSquaredDifference>(s0, _mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i));
  return total(_mm512_add_ps(s0, s1));
}

template <bool kSquaredDifference>
SEEDBED_AVX512 void four_avx512(const float* query, const float* const* rows, std::size_t n, float* out) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  for (std::size_t i = 0; i < n; i += 16) {
    const __m512 x = _mm512_loadu_ps(query + i);
    s0 = step<kSquaredDifference>(s0, x, _mm512_loadu_ps(r0 + i));
    s1 = step<kSquaredDifference>(s1, x, _mm512_loadu_ps(r1 + i));
    s2 = step<kSquaredDifference>(s2, x, _mm512_loadu_ps(r2 + i));
    s3 = step<kSquaredDifference>(s3, x, _mm512_loadu_ps(r3 + i));
  }
  out[0] = total(s0);
  out[1] = total(s1);
  out[2] = total(s2);
  out[3] = total(s3);
}

#elif defined(__aarch64__)

template <bool kSquaredDifference>
inline float32x4_t step(float32x4_t sum, float32x4_t x, float32x4_t y) {
  if constexpr (kSquaredDifference) {
    const float32x4_t d = vsubq_f32(x, y);
    return vfmaq_f32(sum, d, d);
  }
  return vfmaq_f32(sum, x, y);
}

template <bool kSquaredDifference>
float one_neon(const float* a, const float* b, std::size_t n) {
  float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
  for (std::size_t i = 0; i < n; i += 16)
    for (int j = 0; j < 4; ++j)
      s[j] = step<kSquaredDifference>(s[j], vld1q_f32(a + i + 4 * j), vld1q_f32(b + i + 4 * j));
  return vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
}

template <bool kSquaredDifference>
void four_neon(const float* query, const float* const* rows, std::size_t n, float* out) {
  float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
  for (std::size_t i = 0; i < n; i += 4) {
    const float32x4_t x = vld1q_f32(query + i);
    for (int r = 0; r < 4; ++r) s[r] = step<kSquaredDifference>(s[r], x, vld1q_f32(rows[r] + i));
  }
  for (int r = 0; r < 4; ++r) out[r] = vaddvq_f32(s[r]);
}

#endif

template <bool kSquaredDifference>
DistanceKernel choose(Level level) {
#if defined(__x86_64__)
  if (level >= Level::Avx512) return {one_avx512<kSquaredDifference>, four_avx512<kSquaredDifference>};
  if (level == Level::Avx2) return {one_avx2<kSquaredDifference>, four_avx2<kSquaredDifference>};
#elif defined(__aarch64__)
  if (level == Level::Neon) return {one_neon<kSquaredDifference>, four_neon<kSquaredDifference>};
#endif
  static_cast<void>(level);
  return {one_scalar<kSquaredDifference>, four_scalar<kSquaredDifference>};
}

}  // namespace

DistanceKernel dot_kernel(Level level) { return choose<false>(level); }
DistanceKernel l2_kernel(Level level) { return choose<true>(level); }

}  // namespace seedbed::simd

#include "index/rotation.hpp"

#include <cmath>
#include <stdexcept>

#include "index/lanes.hpp"
#include "index/random.hpp"
#include "simd/level.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kRounds = 4;

template <int kDistance>
[[gnu::always_inline]] inline void butterfly_within(Lanes& x) {
  Lanes swapped = x;
  swap_lanes<kDistance>(swapped);
  Lanes sign;
  for (int i = 0; i < 16; ++i) sign[i] = i & kDistance ? -1.0f : 1.0f;
  x = swapped + x * sign;
}

// The Hadamard transform of `size` numbers, a power of two from 16 on, without its factor 1/sqrt(size).
[[gnu::always_inline]] inline void hadamard(float* x, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 16) {
    Lanes& lanes = lanes_at(x + i);
    butterfly_within<1>(lanes);
    butterfly_within<2>(lanes);
    butterfly_within<4>(lanes);
    butterfly_within<8>(lanes);
  }
  for (std::size_t half = 16; half < size; half *= 2)
    for (std::size_t start = 0; start < size; start += 2 * half)
      for (std::size_t i = start; i < start + half; i += 16) {
        Lanes &low = lanes_at(x + i), &high = lanes_at(x + i + half);
        const Lanes sum = low + high, difference = low - high;
        low = sum;
        high = difference;
      }
}

[[gnu::always_inline]] inline void multiply(float* x, const float* by, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 16) {
    Lanes& lanes = lanes_at(x + i);
    lanes = lanes * lanes_at(by + i);
  }
}

[[gnu::always_inline]] inline void scale(float* x, float by, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 16) {
    Lanes& lanes = lanes_at(x + i);
    lanes = lanes * by;
  }
}

// Rotates each pair (x[i], x[i + half]) by 45 degrees and mirrors it, which is its own inverse.
[[gnu::always_inline]] inline void mix_halves(float* x, std::size_t dim) {
  const float root = 0.70710678118654752f;
  const std::size_t half = dim / 2;
  for (std::size_t i = 0; i < half; i += 8)
    for (std::size_t j = i; j < i + 8; ++j) {
      const float a = x[j], b = x[j + half];
      x[j] = (a + b) * root;
      x[j + half] = (a - b) * root;
    }
}

struct Shape {
  std::size_t dim, power;
  const float* signs;
};

// Rounds take the power of two from the front and from the back by turns. Every step is its own inverse.
[[gnu::always_inline]] inline void round_steps(float* x, const Shape& shape, std::size_t round, bool inverse) {
  float* part = x + (round % 2 ? shape.dim - shape.power : 0);
  const float factor = 1.0f / std::sqrt(static_cast<float>(shape.power));
  const bool whole = shape.dim == shape.power;
  if (!inverse) multiply(x, shape.signs + round * shape.dim, shape.dim);
  if (inverse && !whole) mix_halves(x, shape.dim);
  hadamard(part, shape.power);
  scale(part, factor, shape.power);
  if (!inverse && !whole) mix_halves(x, shape.dim);
  if (inverse) multiply(x, shape.signs + round * shape.dim, shape.dim);
}

[[gnu::always_inline]] inline void all_rounds(float* x, const Shape& shape, bool inverse) {
  for (std::size_t i = 0; i < kRounds; ++i) round_steps(x, shape, inverse ? kRounds - 1 - i : i, inverse);
}

void rotate_plain(float* x, const Shape& shape, bool inverse) { all_rounds(x, shape, inverse); }
#if defined(__x86_64__)
[[gnu::target("avx2")]] void rotate_avx2(float* x, const Shape& shape, bool inverse) { all_rounds(x, shape, inverse); }
[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl")]] void rotate_avx512(float* x, const Shape& shape, bool inverse) {
  all_rounds(x, shape, inverse);
}
#endif

void rotate(float* x, const Shape& shape, bool inverse) {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return rotate_avx512(x, shape, inverse);
  if (simd::level() == simd::Level::Avx2) return rotate_avx2(x, shape, inverse);
#endif
  rotate_plain(x, shape, inverse);
}

}  // namespace

Rotation::Rotation(std::size_t dim, std::uint64_t seed) : dim_(dim), power_(16), signs_(kRounds * dim) {
  if (dim == 0 || dim % 16) throw std::invalid_argument("a rotation needs a multiple of 16 dimensions");
  while (power_ * 2 <= dim) power_ *= 2;
  for (std::size_t i = 0; i < signs_.size(); ++i) signs_[i] = random_bits(seed, 0, i) >> 63 ? 1.0f : -1.0f;
}

void Rotation::apply(float* vector) const { rotate(vector, {dim_, power_, signs_.data()}, false); }
void Rotation::invert(float* vector) const { rotate(vector, {dim_, power_, signs_.data()}, true); }

}  // namespace seedbed::index

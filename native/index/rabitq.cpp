#include "index/rabitq.hpp"

#include <algorithm>
#include <cmath>

#include "index/lanes.hpp"
#include "simd/level.hpp"

namespace seedbed::index::rabitq {
namespace {

struct Sums {
  float square, absolute, centre_signs, centre;  // |r|^2, <r, x_u>, <c, x_u>, <c, r>
};

// The signs of 16 residuals: bit i is set where r[i] >= 0.
[[gnu::always_inline]] inline unsigned bits(const Lanes& r) {
  const IntLanes place = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  IntLanes set = (r >= 0) & place, other;
  other = set, swap_lanes<8>(other), set |= other;
  other = set, swap_lanes<4>(other), set |= other;
  other = set, swap_lanes<2>(other), set |= other;
  other = set, swap_lanes<1>(other), set |= other;
  return static_cast<unsigned>(set[0]);
}

[[gnu::always_inline]] inline Sums code_and_sums(const float* x, const float* c, std::size_t dim, std::uint8_t* block,
                                                 std::size_t member) {
  const Lanes zero{}, one = zero + 1.0f;
  Lanes square{}, absolute{}, centre_signs{}, centre{};
  for (std::size_t i = 0; i < dim; i += 16) {
    const Lanes from = c ? lanes_at(c + i) : zero;
    const Lanes r = lanes_at(x + i) - from;
    const Lanes sign = r >= 0 ? one : -one;
    square += r * r;
    absolute += r * sign;
    centre_signs += from * sign;
    centre += from * r;
    const unsigned signs = bits(r);
    for (std::size_t group = 0; group < 4; ++group)
      simd::set_code(block, member, i / 4 + group, signs >> (4 * group) & 15u);
  }
  return {total(square), total(absolute), total(centre_signs), total(centre)};
}

using Code = Sums (*)(const float*, const float*, std::size_t, std::uint8_t*, std::size_t);

Sums code_plain(const float* x, const float* c, std::size_t dim, std::uint8_t* block, std::size_t member) {
  return code_and_sums(x, c, dim, block, member);
}
#if defined(__x86_64__)
[[gnu::target("avx2")]] Sums code_avx2(const float* x, const float* c, std::size_t dim, std::uint8_t* block,
                                       std::size_t member) {
  return code_and_sums(x, c, dim, block, member);
}
[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl")]] Sums code_avx512(const float* x, const float* c, std::size_t dim,
                                                                     std::uint8_t* block, std::size_t member) {
  return code_and_sums(x, c, dim, block, member);
}
#endif

constexpr float kLargest = 31;  // of an entry, so that eight add up within a byte

struct Range {
  float slope, offset;  // <q, x_u> = slope * sum of entries + offset
};

// The entry of a code is the sum over the group's dimensions of |q| + q or |q| - q, which begins at 0, in equal steps.
[[gnu::always_inline]] inline Range fill_tables(const float* query, std::size_t dim, std::uint8_t* tables) {
  const Lanes s0 = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
  const Lanes s1 = {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1};
  const Lanes s2 = {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1};
  const Lanes s3 = {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1};
  float largest = 0, lowest = 0;
  for (std::size_t i = 0; i < dim; i += 4) {
    const float sum = std::abs(query[i]) + std::abs(query[i + 1]) + std::abs(query[i + 2]) + std::abs(query[i + 3]);
    largest = std::max(largest, sum);
    lowest -= sum;
  }
  const float per_step = largest > 0 ? kLargest / (2 * largest) : 0.0f;
  for (std::size_t i = 0; i < dim; i += 4) {
    const float q0 = query[i] * per_step, q1 = query[i + 1] * per_step, q2 = query[i + 2] * per_step,
                q3 = query[i + 3] * per_step;
    const float least = std::abs(q0) + std::abs(q1) + std::abs(q2) + std::abs(q3);
    const Lanes entry = s0 * q0 + s1 * q1 + s2 * q2 + s3 * q3 + (least + 0.5f);
    narrow(__builtin_convertvector(entry, IntLanes), *reinterpret_cast<ByteLanes*>(tables + i * 4));
  }
  return {2 * largest / kLargest, lowest};
}

using Table = Range (*)(const float*, std::size_t, std::uint8_t*);

Range table_plain(const float* query, std::size_t dim, std::uint8_t* tables) { return fill_tables(query, dim, tables); }
#if defined(__x86_64__)
[[gnu::target("avx2")]] Range table_avx2(const float* query, std::size_t dim, std::uint8_t* tables) {
  return fill_tables(query, dim, tables);
}
[[gnu::target("avx512f,avx512dq,avx512bw,avx512vl")]] Range table_avx512(const float* query, std::size_t dim,
                                                                       std::uint8_t* tables) {
  return fill_tables(query, dim, tables);
}
#endif

Table table_kernel() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return table_avx512;
  if (simd::level() == simd::Level::Avx2) return table_avx2;
#endif
  return table_plain;
}

Code code_kernel() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return code_avx512;
  if (simd::level() == simd::Level::Avx2) return code_avx2;
#endif
  return code_plain;
}

}  // namespace

Factors encode(const float* x, const float* c, std::size_t dim, bool l2, std::uint8_t* block, std::size_t member) {
  const Sums sums = code_kernel()(x, c, dim, block, member);
  if (!(sums.absolute > 0)) return {0.0f, 0.0f};  // x = c
  const float factor = sums.square / sums.absolute;
  return l2 ? Factors{sums.square + 2 * factor * sums.centre_signs, -2 * factor}
            : Factors{factor * sums.centre_signs - sums.centre, -factor};
}

void Query::set(const float* query, std::size_t dim) {
  tables_.resize(dim * 4);
  const Range range = table_kernel()(query, dim, tables_.data());
  slope_ = range.slope;
  offset_ = range.offset;
  kernel_ = simd::fastscan_kernel(simd::level());
}

}  // namespace seedbed::index::rabitq

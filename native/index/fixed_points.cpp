#include "index/fixed_points.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "index/lanes.hpp"

namespace seedbed::index {
namespace {

constexpr float kLargest = 127 * 256;  // of a fixed-point number, so that its high byte rounds to 127 at most
constexpr std::uint8_t kZero = 128;
constexpr float kFarthest = 1e37f;  // squared length that no vector which may be added reaches, and from there no other


[[gnu::always_inline]] inline void fixed_at(const std::uint8_t* high, const std::uint8_t* low, Lanes& out) {
  IntLanes upper, lower;
  widen(*reinterpret_cast<const ByteLanes*>(high), upper);
  widen(*reinterpret_cast<const ByteLanes*>(low), lower);
  out = __builtin_convertvector(upper * 256 + lower - kZero * 257, Lanes);
}

// The squared distance, or the dot product, of `query` and a point with steps of `scale`.
template <bool kL2>
[[gnu::always_inline]] inline float compare(const float* query, const std::uint8_t* high, const std::uint8_t* low,
                                            float scale, std::size_t width) {
  Lanes sum{};
  for (std::size_t i = 0; i < width; i += 16) {
    Lanes fixed;
    fixed_at(high + i, low + i, fixed);
    if constexpr (kL2) {
      const Lanes difference = lanes_at(query + i) - fixed * scale;
      sum += difference * difference;
    } else {
      sum += lanes_at(query + i) * fixed;
    }
  }
  return kL2 ? total(sum) : total(sum) * scale;
}

[[gnu::always_inline]] inline void decode_all(const std::uint8_t* high, const std::uint8_t* low, float scale,
                                              std::size_t width, float* out) {
  for (std::size_t i = 0; i < width; i += 16) {
    fixed_at(high + i, low + i, lanes_at(out + i));
    lanes_at(out + i) *= scale;
  }
}

[[gnu::always_inline]] inline float largest_of(const float* x, std::size_t count) {
  Lanes most{};
  for (std::size_t i = 0; i < count; i += 16) {
    const Lanes value = lanes_at(x + i);
    const Lanes size = value < 0 ? -value : value;
    most = size > most ? size : most;
  }
  float out = 0;
  for (int i = 0; i < 16; ++i) out = std::max(out, most[i]);
  return out;
}

// Bytes of x * factor, rounded, and their sum.
[[gnu::always_inline]] inline std::int32_t round_all(const float* x, float factor, std::size_t count,
                                                     std::int8_t* out) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves a number rounded in the low bits
  constexpr std::int32_t magic_bits = 0x4B400000;
  IntLanes sum{};
  for (std::size_t i = 0; i < count; i += 16) {
    const Lanes shifted = lanes_at(x + i) * factor + magic;
    const IntLanes whole = reinterpret_cast<const IntLanes&>(shifted) - magic_bits;
    sum += whole;
    narrow(whole, *reinterpret_cast<ByteLanes*>(out + i));
  }
  std::int32_t total = 0;
  for (int i = 0; i < 16; ++i) total += sum[i];
  return total;
}

[[gnu::always_inline]] inline float dot_of(const float* x, const float* y, std::size_t count) {
  Lanes sum{};
  for (std::size_t i = 0; i < count; i += 16) sum += lanes_at(x + i) * lanes_at(y + i);
  return total(sum);
}

using Line = std::uint8_t __attribute__((vector_size(64), aligned(1), may_alias));

// Codes count from 128 and queries from 0.
[[gnu::always_inline]] inline void flip_all(const std::uint8_t* codes, std::size_t bytes, std::int8_t* out) {
  for (std::size_t i = 0; i < bytes; i += sizeof(Line))
    *reinterpret_cast<Line*>(out + i) = *reinterpret_cast<const Line*>(codes + i) ^ kZero;
}

struct PointKernel {
  float (*l2)(const float*, const std::uint8_t*, const std::uint8_t*, float, std::size_t);
  float (*dot)(const float*, const std::uint8_t*, const std::uint8_t*, float, std::size_t);
  void (*decode)(const std::uint8_t*, const std::uint8_t*, float, std::size_t, float*);
  float (*largest)(const float*, std::size_t);
  std::int32_t (*round)(const float*, float, std::size_t, std::int8_t*);
  float (*product)(const float*, const float*, std::size_t);
  void (*flip)(const std::uint8_t*, std::size_t, std::int8_t*);
};

#define SEEDBED_POINT_KERNEL(name, ...)                                                                         \
  __VA_ARGS__ float l2_##name(const float* q, const std::uint8_t* h, const std::uint8_t* l, float s, std::size_t n) { \
    return compare<true>(q, h, l, s, n);                                                                        \
  }                                                                                                             \
  __VA_ARGS__ float dot_##name(const float* q, const std::uint8_t* h, const std::uint8_t* l, float s, std::size_t n) { \
    return compare<false>(q, h, l, s, n);                                                                       \
  }                                                                                                             \
  __VA_ARGS__ void decode_##name(const std::uint8_t* h, const std::uint8_t* l, float s, std::size_t n, float* out) { \
    decode_all(h, l, s, n, out);                                                                                \
  }                                                                                                             \
  __VA_ARGS__ float largest_##name(const float* x, std::size_t n) { return largest_of(x, n); }                  \
  __VA_ARGS__ std::int32_t round_##name(const float* x, float f, std::size_t n, std::int8_t* out) {             \
    return round_all(x, f, n, out);                                                                             \
  }                                                                                                             \
  __VA_ARGS__ float product_##name(const float* x, const float* y, std::size_t n) { return dot_of(x, y, n); }   \
  __VA_ARGS__ void flip_##name(const std::uint8_t* h, std::size_t n, std::int8_t* out) { flip_all(h, n, out); } \
  constexpr PointKernel kernel_##name{l2_##name,    dot_##name,     decode_##name, largest_##name,              \
                                      round_##name, product_##name, flip_##name};
SEEDBED_POINT_KERNEL(plain)
#if defined(__x86_64__)
SEEDBED_POINT_KERNEL(avx2, [[gnu::target("avx2,fma")]])
SEEDBED_POINT_KERNEL(avx512, [[gnu::target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]])
#endif
#undef SEEDBED_POINT_KERNEL

const PointKernel& point_kernel() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return kernel_avx512;
  if (simd::level() == simd::Level::Avx2) return kernel_avx2;
#endif
  return kernel_plain;
}

std::size_t padded_bytes(std::size_t width) {
  return (width + simd::kByteLane - 1) / simd::kByteLane * simd::kByteLane;
}

}  // namespace

FixedPoints::FixedPoints(std::size_t dim, bool l2, std::uint64_t seed)
    : dim_(dim), width_(simd::padded(dim)), stride_(padded_bytes(width_)), l2_(l2), rotation_(width_, seed) {
  if (width_ > simd::kLongest) throw std::invalid_argument("dim must be at most 65536");
}

void FixedPoints::reserve(std::size_t count) {
  high_.grow(count * stride_);
  low_.grow(count * width_);
  shapes_.grow(count);
}

// The row with zeros after it, relative to the centre if asked.
void FixedPoints::spread(const float* row, float* out, bool centred) const {
  std::copy_n(row, dim_, out);
  std::fill(out + dim_, out + width_, 0.0f);
  if (centred)
    for (std::size_t i = 0; i < dim_; ++i) out[i] -= centre_[i];
}

// Any point will do as the centre: the mean of what comes first keeps the numbers small.
void FixedPoints::centre_on(const float* rows, std::size_t count) {
  if (count == 0 || centre_.size()) return;
  std::vector<double> sum(dim_);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < dim_; ++j) sum[j] += rows[i * dim_ + j];
  centre_.resize(width_, 0.0f);
  for (std::size_t j = 0; j < dim_; ++j) centre_.at(j) = static_cast<float>(sum[j] / static_cast<double>(count));
}

void FixedPoints::append(const float* rows, std::size_t count) {
  centre_on(rows, count);
  std::vector<float> turned(width_);
  const std::size_t first = size();
  high_.resize((first + count) * stride_, kZero);
  low_.resize((first + count) * width_, kZero);
  shapes_.resize(first + count, PointShape{});
  float reach = 0;
  std::size_t first_unlifted = first;
  for (std::size_t i = 0; i < count; ++i) {
    spread(rows + i * dim_, turned.data(), true);
    rotation_.apply(turned.data());
    encode(turned.data(), first + i);
    reach = std::max(reach, shapes_[first + i].norm);
  }
  if (!l2_ && reach > reach_) {
    reach_ = reach * 1.1f;  // so that a slow rise does not lift all points again and again
    first_unlifted = 0;
  }
  if (!l2_)
    for (std::size_t i = first_unlifted; i < size(); ++i)
      shapes_.at(i).lift = std::sqrt(std::max(0.0f, reach_ - shapes_[i].norm));
}

void FixedPoints::encode(const float* turned, std::size_t slot) {
  const float scale = point_kernel().largest(turned, width_) / kLargest;
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1.0f / scale : 0.0f;
  std::uint8_t* high = high_.writable() + slot * stride_;
  std::uint8_t* low = low_.writable() + slot * width_;
  std::int32_t square = 0, sum = 0;
  for (std::size_t i = 0; i < width_; ++i) {
    const auto fixed = static_cast<std::int32_t>(std::lrint(turned[i] * inverse));
    const std::int32_t upper = (fixed + 128) >> 8;
    high[i] = static_cast<std::uint8_t>(upper + kZero);
    low[i] = static_cast<std::uint8_t>(fixed - upper * 256 + kZero);
    square += upper * upper;
    sum += upper;
  }
  const float step = scale * 256;
  shapes_.at(slot) = {step, step * step * static_cast<float>(square), 0.0f, sum};
}

void FixedPoints::move(std::size_t from, std::size_t to) {
  std::copy_n(high(from), stride_, high_.writable() + to * stride_);
  std::copy_n(low(from), width_, low_.writable() + to * width_);
  shapes_.at(to) = shapes_[from];
}

void FixedPoints::shrink(std::size_t count) {
  high_.resize(count * stride_, kZero);
  low_.resize(count * width_, kZero);
  shapes_.resize(count, PointShape{});
}

bool FixedPoints::same(std::size_t a, std::size_t b) const {
  return shapes_[a].scale == shapes_[b].scale && std::memcmp(high(a), high(b), stride_) == 0 &&
         std::memcmp(low(a), low(b), width_) == 0;
}

void FixedPoints::prepare(const float* query, float* turned, ByteQuery& bytes) const {
  const PointKernel& kernel = point_kernel();
  spread(query, turned, l2_ && centre_.size());
  if (!l2_) bytes.base = -kernel.product(turned, centre_.data(), centre_.size());
  rotation_.apply(turned);
  if (l2_) bytes.base = kernel.product(turned, turned, width_);
  const float scale = kernel.largest(turned, width_) / 127;
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1.0f / scale : 0.0f;
  bytes.bytes.resize(stride_, std::int8_t{0});
  bytes.shift = kernel.round(turned, inverse, width_, bytes.bytes.writable()) * kZero;
  bytes.lifts = 0;
  bytes.norms = l2_ ? 1.0f : 0.0f;
  bytes.dots = l2_ ? 2 * scale : scale;
}

void FixedPoints::prepare_point(std::size_t slot, ByteQuery& bytes) const {
  bytes.bytes.resize(stride_, std::int8_t{0});
  point_kernel().flip(high(slot), stride_, bytes.bytes.writable());
  const PointShape& shape = shapes_[slot];
  bytes.shift = shape.sum * kZero;
  bytes.base = l2_ ? shape.norm : 2 * reach_;
  bytes.norms = l2_ ? 1.0f : 0.0f;
  bytes.dots = 2 * shape.scale;
  bytes.lifts = 2 * shape.lift;
}

void FixedPoints::values(const simd::ByteKernel& kernel, const ByteQuery& query, std::span<const std::uint32_t> slots,
                         float* out) const {
  constexpr std::size_t ahead = 4;
  const std::size_t count = slots.size();
  const auto prefetch = [&](std::size_t i) {
    const std::uint8_t* line = high(slots[i]);
    // Into the second cache: the first has too few lines under way to take several codes at once.
    for (std::size_t byte = 0; byte < stride_; byte += 64) __builtin_prefetch(line + byte, 0, 2);
    __builtin_prefetch(&shapes_[slots[i]]);
  };
  for (std::size_t i = 0; i < std::min(ahead, count); ++i) prefetch(i);
  const std::int8_t* bytes = query.bytes.data();
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::size_t j = i + ahead; j < std::min(i + ahead + 4, count); ++j) prefetch(j);
    const std::uint8_t* codes[4] = {high(slots[i]), high(slots[i + 1]), high(slots[i + 2]), high(slots[i + 3])};
    std::int32_t dots[4];
    kernel.four(bytes, codes, stride_, dots);
    for (std::size_t j = 0; j < 4; ++j) out[i + j] = value(query, dots[j], slots[i + j]);
  }
  for (; i < count; ++i) out[i] = value(query, kernel.one(bytes, high(slots[i]), stride_), slots[i]);
}

float FixedPoints::exact(const float* turned, float base, std::size_t slot) const {
  const PointKernel& kernel = point_kernel();
  const float scale = shapes_[slot].scale / 256;
  const float value = l2_ ? kernel.l2(turned, high(slot), low(slot), scale, width_)
                          : base - kernel.dot(turned, high(slot), low(slot), scale, width_);
  return value == value ? value : std::numeric_limits<float>::infinity();
}

void FixedPoints::decode(std::size_t slot, float* out) const {
  point_kernel().decode(high(slot), low(slot), shapes_[slot].scale / 256, width_, out);
}

void FixedPoints::original(std::size_t slot, float* out) const {
  std::vector<float> turned(width_);
  decode(slot, turned.data());
  rotation_.invert(turned.data());
  for (std::size_t i = 0; i < dim_; ++i) out[i] = turned[i] + centre_[i];
}

std::size_t FixedPoints::bytes_per_point(std::size_t dim) {
  const std::size_t width = simd::padded(dim);
  return padded_bytes(width) + width + sizeof(PointShape);
}

FixedPoints::State FixedPoints::state() const {
  const auto* shapes = reinterpret_cast<const std::uint8_t*>(shapes_.data());
  return {high_.span(), low_.span(), {shapes, size() * sizeof(PointShape)}, centre_.span(), reach_};
}

void FixedPoints::restore(const State& state, std::size_t count) {
  if (state.high.size() != count * stride_ || state.low.size() != count * width_ ||
      state.shapes.size() != count * sizeof(PointShape) ||
      (state.centre.size() != width_ && (count || state.centre.size())))
    throw std::invalid_argument("the codes do not belong together");
  double square = 0;
  for (float value : state.centre) square += double{value} * value;
  if (!(square < kFarthest && state.reach >= 0 && state.reach < kFarthest))
    throw std::invalid_argument("the centre or the reach is no finite number");
  high_.borrow(state.high);
  low_.borrow(state.low);
  shapes_.borrow({reinterpret_cast<const PointShape*>(state.shapes.data()), count});
  centre_.borrow(state.centre);
  reach_ = state.reach;
}

}  // namespace seedbed::index

// Vectors in sixteen-bit fixed point, relative to a centre and rotated, split into high and low bytes.
//
// The high bytes alone are an eight-bit scalar quantisation: half the memory traffic of both, for walking a graph with
// exact integer dot products. With the low bytes they are finer than float16, for ranking what was found. This is the
// two-level scheme of LVQ (Aguerrebere et al., VLDB 2023) with one scale for each vector and no offset: a random
// rotation makes coordinates symmetric and takes the outliers away, as for RaBitQ.
//
// Under the inner product a graph needs a distance between points that leads to the largest products: points are lifted
// by one more coordinate onto a sphere (Bachrach et al., RecSys 2014), where the closest has the largest product.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "index/rotation.hpp"
#include "index/storage.hpp"
#include "simd/bytes.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

struct PointShape {
  float scale;  // of one step of the high bytes
  float norm;  // squared, of the high bytes' vector
  float lift;
  std::int32_t sum;  // of the high bytes
};

// What points are compared with: a query, or another point while a graph is built.
struct ByteQuery {
  Array<std::int8_t> bytes;
  std::int32_t shift = 0;                      // 128 * sum of the bytes: codes count from 128
  float base = 0, norms = 0, dots = 0, lifts = 0;  // value = base + norms * norm - dots * scale * dot - lifts * lift
};

class FixedPoints {
 public:
  FixedPoints(std::size_t dim, bool l2, std::uint64_t seed);

  std::size_t size() const { return shapes_.size(); }
  std::size_t dim() const { return dim_; }          // as given
  std::size_t width() const { return width_; }      // with zeros up to a multiple of 16
  std::size_t high_stride() const { return stride_; }  // in bytes, a multiple of a cache line

  void reserve(std::size_t count);
  void centre_on(const float* rows, std::size_t count);  // the first time only
  void append(const float* rows, std::size_t count);
  void move(std::size_t from, std::size_t to);
  void shrink(std::size_t count);
  bool same(std::size_t a, std::size_t b) const;

  // Rotates and centres a query: `turned` gets width() floats; `query` the bytes and what belongs to them.
  void prepare(const float* query, float* turned, ByteQuery& bytes) const;
  void prepare_point(std::size_t slot, ByteQuery& bytes) const;

  const std::uint8_t* high(std::size_t slot) const { return high_.data() + slot * stride_; }
  const std::uint8_t* low(std::size_t slot) const { return low_.data() + slot * width_; }
  const PointShape& shape(std::size_t slot) const { return shapes_[slot]; }

  float value(const ByteQuery& query, std::int32_t dot, std::size_t slot) const {
    const PointShape& shape = shapes_[slot];
    const float value = query.base + query.norms * shape.norm - query.lifts * shape.lift -
                        query.dots * shape.scale * static_cast<float>(dot - query.shift);
    return value == value ? value : std::numeric_limits<float>::infinity();  // no NaN may reach a sort
  }
  // Values by the high bytes; smaller is closer.
  void values(const simd::ByteKernel& kernel, const ByteQuery& query, std::span<const std::uint32_t> slots,
              float* out) const;
  // The value by all sixteen bits, against a query that prepare() turned; `base` is the query's.
  float exact(const float* turned, float base, std::size_t slot) const;
  float exact_base(const ByteQuery& query) const { return l2_ ? 0.0f : query.base; }

  void decode(std::size_t slot, float* out) const;     // width() floats, rotated and relative to the centre
  void original(std::size_t slot, float* out) const;   // dim() floats, as given

  std::size_t bytes() const { return high_.bytes() + low_.bytes() + shapes_.bytes() + centre_.bytes(); }
  static std::size_t bytes_per_point(std::size_t dim);

  struct State {
    std::span<const std::uint8_t> high, low, shapes;
    std::span<const float> centre;
    float reach = 0;
  };
  State state() const;
  // Throws std::invalid_argument unless the arrays belong to `count` points.
  void restore(const State& state, std::size_t count);

 private:
  void encode(const float* turned, std::size_t slot);
  void spread(const float* row, float* out, bool centred) const;

  std::size_t dim_, width_, stride_;
  bool l2_;
  Rotation rotation_;
  Array<float> centre_;  // width() floats, set by the first rows; empty before
  float reach_ = 0;      // squared radius of the sphere that points are lifted onto; 0 under l2
  Array<std::uint8_t> high_;
  Array<std::uint8_t> low_;
  Array<PointShape> shapes_;
};

}  // namespace seedbed::index

// Vectors packed for products with many others: of each, which packed one is nearest, or its products with all.
#pragma once
#include <cstddef>
#include <cstdint>

#include "index/storage.hpp"
#include "simd/products.hpp"

namespace seedbed::index {

class Panels {
 public:
  // Copies `rows` (count, dim). Distances are the same, and rounded less, when measured from an `origin` (dim) amid the
  // data; null: from zero. `prices` (count), or null, are added to the halved squared distances that `nearest` compares.
  void pack(const float* rows, std::size_t count, std::size_t dim, const float* origin, const float* prices);

  // For each of `rows` (count, dim): the packed vector y of least |y|^2 / 2 - x.y + price, the first of equals, and that
  // value, to which |x|^2 / 2 is missing for half the squared distance. At least one vector is packed.
  void nearest(const float* rows, std::size_t count, std::size_t threads, std::uint32_t* which, float* value) const;

  // Inner products (count, size()) of `rows` with all packed vectors, both measured from the origin.
  void products(const float* rows, std::size_t count, std::size_t threads, float* out) const;

  std::size_t size() const { return count_; }
  std::size_t bytes() const { return columns_.bytes() + offsets_.bytes() + origin_.bytes(); }

 private:
  std::size_t panels() const { return (count_ + simd::kTileColumns - 1) / simd::kTileColumns; }
  void pack_rows(const float* rows, std::size_t count, float* out) const;

  std::size_t count_ = 0, dim_ = 0;
  Array<float> columns_, offsets_, origin_;
};

}  // namespace seedbed::index

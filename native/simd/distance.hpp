// Dot product and squared Euclidean distance of float32 vectors, one against one and one against four.
// Lengths are multiples of kLane: callers pad with zeros, so no kernel has a tail.
#pragma once
#include <cstddef>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kLane = 16;

constexpr std::size_t padded(std::size_t dim) { return (dim + kLane - 1) / kLane * kLane; }

struct DistanceKernel {
  float (*one)(const float* a, const float* b, std::size_t padded_dim);
  // Four rows share each load of the query, and their four chains of additions hide each other's latency.
  void (*four)(const float* query, const float* const* rows, std::size_t padded_dim, float* out);
};

DistanceKernel dot_kernel(Level level);  // larger is closer
DistanceKernel l2_kernel(Level level);   // squared; smaller is closer

}  // namespace seedbed::simd

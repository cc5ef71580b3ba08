// Dot products of bytes: codes (unsigned, 128 standing for zero) with a query of signed bytes. Exact in int32 for up to
// kLongest bytes, and so the same at every level.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kByteLane = 64;  // lengths are multiples of it: callers pad queries with zeros
inline constexpr std::size_t kLongest = 1 << 16;

struct ByteKernel {
  std::int32_t (*one)(const std::int8_t* query, const std::uint8_t* code, std::size_t bytes);
  void (*four)(const std::int8_t* query, const std::uint8_t* const* codes, std::size_t bytes, std::int32_t* out);
};

ByteKernel byte_kernel(Level level);

}  // namespace seedbed::simd

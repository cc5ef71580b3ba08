// Products of float rows with a matrix of weights, both rounded to 8-bit integers with a scale for every 32 columns.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kBlock = 32;          // columns that share a scale
inline constexpr std::size_t kPanel = 32;          // outputs that lie together
inline constexpr std::size_t kQuad = 4;            // columns that one instruction multiplies
inline constexpr std::size_t kInt8Rows = 6;        // of a tile

// Rows of activations: signed bytes, a scale for each block, and 128 times the sum of a block's bytes, negated, which
// takes back what the weights' offset of 128 adds.
struct Int8Rows {
  const std::int8_t* values;       // (rows, columns)
  const float* scales;             // (rows, blocks)
  const std::int32_t* corrections; // (rows, blocks)
};

// 32 outputs of a matrix: bytes 128 too large (columns / 4, 32, 4), scales (blocks, 32).
struct Int8Panel {
  const std::uint8_t* values;
  const float* scales;
};

struct Int8Kernel {
  // out[r * out_stride + n] = bias[n] + product, for `rows` (at most kInt8Rows) rows and all 32 outputs.
  void (*multiply)(const Int8Rows& rows, std::size_t row_count, const Int8Panel& panel, std::size_t blocks,
                   const float* bias, float* out, std::size_t out_stride);
  // One row: bytes, scales and corrections; a block of zeros has the scale 0.
  void (*quantise)(const float* row, std::size_t blocks, std::int8_t* values, float* scales, std::int32_t* corrections);
};

Int8Kernel int8_kernel(Level level);

}  // namespace seedbed::simd

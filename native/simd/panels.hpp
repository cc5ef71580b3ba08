// Products of rows of activations with weights of fewer bits, which lie in panels of 32 outputs.
//
// A panel holds its columns in blocks of 32. A word of a block is 4 bytes of one output, and the words of the 32 outputs
// lie beside each other:
//   bfloat16: 16 words, columns 2 q and 2 q + 1 in word q;
//   int8:      8 words, columns 4 q to 4 q + 3 in word q, 128 too large, then a float16 scale for each output;
//   int4:      4 words, columns 4 q to 4 q + 3 in the low halves of word q's bytes and those 16 further on in the high
//              ones, 8 too large, then the scales.
// Activations are rounded as the weights are: to bfloat16, or (int8, int4) to 8 bits with a scale for every 32 columns.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

enum class Packing { BFloat16, Int8, Int4 };

inline constexpr std::size_t kBlock = 32;      // columns
inline constexpr std::size_t kPanel = 32;      // outputs
inline constexpr std::size_t kPanelRows = 6;   // of activations, at a time

constexpr std::size_t word_count(Packing packing) {
  return packing == Packing::BFloat16 ? 16 : packing == Packing::Int8 ? 8 : 4;
}
// Of a block of a panel.
constexpr std::size_t block_bytes(Packing packing) {
  return word_count(packing) * 4 * kPanel + (packing == Packing::BFloat16 ? 0 : 2 * kPanel);
}

struct PanelKernel {
  std::size_t row_bytes;  // of a block of a rounded row
  // A row of 32 `blocks` columns. What is not finite makes every product with its block NaN.
  void (*round)(const float* row, std::size_t blocks, std::byte* rounded);
  // out[r * out_stride + n] = bias[n] + product, for `count` (at most kPanelRows) rounded rows and all 32 outputs. A
  // row's results are the same, bit for bit, whatever rows come with it.
  void (*multiply)(const std::byte* rows, std::size_t count, const std::byte* panel, std::size_t blocks,
                   const float* bias, float* out, std::size_t out_stride);
};

PanelKernel panel_kernel(Packing packing, Level level);

float from_half(std::uint16_t half);

// Round to nearest, ties to even; NaN stays one.
[[gnu::always_inline]] inline std::uint16_t to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>(((bits & 0x7FFFFFFFu) > 0x7F800000u ? bits | 0x400000u : rounded) >> 16);
}

}  // namespace seedbed::simd

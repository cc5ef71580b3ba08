// Four-bit weights in the codes of NF4 (Dettmers et al. 2023), 64 to a scale, two to a byte with the first above.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kNf4Block = 64;
inline constexpr std::size_t kNf4Rows = 8;   // activations that a pass over the codes serves
inline constexpr std::size_t kNf4Group = 32; // columns that lie together: first the even ones, then the odd ones

inline constexpr std::array<float, 16> kNf4 = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

struct Nf4Kernel {
  // Whole blocks: out[i] = value(code i) * scales[i / 64].
  void (*unpack)(const std::uint8_t* codes, const float* scales, std::size_t blocks, float* out);
  // out[r * out_stride + o] = row r of x times row o of the weights, for `rows` (at most kNf4Rows) and all `outputs`.
  // x (rows, 64 blocks) in groups; a row of weights has `blocks` scales and 32 * blocks bytes.
  void (*multiply)(const float* x, std::size_t rows, const std::uint8_t* codes, const float* scales, std::size_t blocks,
                   std::size_t outputs, float* out, std::size_t out_stride);
};

Nf4Kernel nf4_kernel(Level level);

}  // namespace seedbed::simd

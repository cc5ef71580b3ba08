// What late interaction computes for many tokens: products of document tokens with a panel of query tokens of which only the
// largest are kept, and tokens from halves or from residual codes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kMaxSimRows = 8, kMaxSimColumns = 32, kMaxSimStep = 8;
inline constexpr std::size_t kCodeBytes = 16;  // codes of 16 * (8 / bits) components lie in so many bytes

struct MaxSimKernel {
  // best[c] = max(best[c], sum over d of rows[r][d] * columns[d * width + c]) over the eight rows and c < width: 8, 16, 24 or
  // 32. Adds nothing to the eight numbers `spoiled`, but NaN to each where a row holds NaN, infinity or too large numbers.
  // The 32 * dim bytes from `next` on are fetched meanwhile; they need not exist.
  void (*keep_largest)(const float* const* rows, const float* columns, std::size_t width, std::size_t dim, const void* next,
                       float* best, float* spoiled);
  // IEEE halves to floats.
  void (*widen)(const std::uint16_t* halves, std::size_t count, float* out);
  // out[d] = base[d] + table[code of d], for `groups` groups. In a group, byte i holds the codes of the components i, i + 16,
  // i + 32, ..., lowest bits first. `base` and `out` have room for all components of the groups.
  void (*decode)(const std::uint8_t* codes, const float* table, unsigned bits, const float* base, std::size_t groups,
                 float* out);
};

MaxSimKernel maxsim_kernel(Level level);

}  // namespace seedbed::simd

// RaBitQ (Gao & Long, SIGMOD 2024): one bit for each dimension of a residual, an unbiased estimate of its dot product.
//
// Vectors are rotated (rotation.hpp) by whoever calls. The code of a residual r = x - c is x_u = sign(r), in
// {-1, +1}^d, and <q, r> is estimated by F <q, x_u> with F = |r|^2 / <r, x_u>; its error falls as 1 / sqrt(d). Codes
// are kept in blocks of 32 that one fast scan scores (simd/fastscan.hpp), as SymphonyQG does (Gou et al., SIGMOD 2025).
// With
//   add   = |r|^2 + 2 F <c, x_u>,  scale = -2 F   under the squared distance,
//   add   = F <c, x_u> - <c, r>    scale = -F     under the (negative) dot product,
// a member's rank value is   base + add + scale <q, x_u>,   base being c's own: |q - c|^2, or -<q, c>.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "simd/fastscan.hpp"

namespace seedbed::index::rabitq {

inline constexpr std::size_t kBlock = simd::kMembers;

// `dim` is a multiple of 16 throughout.
constexpr std::size_t block_bytes(std::size_t dim) { return dim * kBlock / 8; }

struct Factors {
  float add, scale;
};

// Writes member `member` of a block: the code of x - c. `c` may be null for the origin.
Factors encode(const float* x, const float* c, std::size_t dim, bool l2, std::uint8_t* block, std::size_t member);

// Tables of <q, x_u> for each four dimensions, rounded to five bits: eight lookups add up within a byte, and the error
// of rounding stays far below that of the codes.
class Query {
 public:
  void set(const float* query, std::size_t dim);
  // out[i] = base + add[i] + scale[i] * <q, code i> for the 32 members of a block; bit i of the answer is set where
  // that is below `limit`.
  std::uint32_t estimate(const std::uint8_t* block, const float* add, const float* scale, float base, float limit,
                         float* out) const {
    return kernel_.estimates(block, {tables_.data(), tables_.size() / 16, kAddable}, add, scale,
                             {base, slope_, offset_, limit}, out);
  }

 private:
  static constexpr std::size_t kAddable = 8;
  std::vector<std::uint8_t> tables_;
  float slope_ = 0, offset_ = 0;
  simd::FastScanKernel kernel_{};
};

}  // namespace seedbed::index::rabitq

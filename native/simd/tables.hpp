// What a search in product codes needs besides the scan itself (simd/fastscan.hpp): the query's tables, the same as bytes, and
// the choice of the scores that are good enough.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr float kLargestEntry = 31;  // five bits: eight entries add up within a byte

struct TableKernel {
  // out[s * entries + e] = inner product of part s of `query` with entry e of codebook s. Codebooks lie component by component:
  // (subspaces, width, entries); entries are a multiple of 16.
  void (*products)(const float* query, const float* codebooks, std::size_t subspaces, std::size_t width,
                   std::size_t entries, float* out);
  // Tables of 16 entries as whole numbers up to kLargestEntry: the sum over s of entry c_s is about *offset + *scale * the
  // sum of these.
  void (*bytes)(const float* tables, std::size_t subspaces, std::uint8_t* out, float* scale, float* offset);
  // scores[i] + biases[i] (null: zeros) above `least` go to `kept`, and their i to `where`, both with room for count + 16.
  // Returns their number.
  std::size_t (*select)(const float* scores, const float* biases, std::size_t count, float least, std::uint32_t* where,
                        float* kept);
};

TableKernel table_kernel(Level level);

}  // namespace seedbed::simd

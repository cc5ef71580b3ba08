// Scans of 8-bit codes: integer products of queries with blocks of rows, and which rows pass a bound.
//
// Codes lie in blocks of 16 rows, four dimensions of each row together: byte ((block * dim / 4 + group) * 16 + row) * 4 + i
// is dimension 4 * group + i, biased by 128, from -127 to 127. So one register holds 16 rows, and no sum has to be
// gathered from its lanes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kScanRows = 16;
inline constexpr std::size_t kScanQueries = 8;  // that `products` takes at most

// What bounds a row's product with a query, each array with one number for every row.
struct ScanRowBounds {
  const float* scales;   // of the codes
  const float* errors;   // length of what the codes leave out, rounding included
  const float* lengths;  // of the row as the codes have it
  const float* offsets;  // taken from twice the product; null: the product alone counts
};

struct ScanQuery {
  float scale;   // of the query's codes
  float length;  // of the query
  float error;   // length of what its codes leave out
};

struct ScanKernel {
  // out[q * stride + row] = sum over j of code(row, j) * queries[q][j], for all rows of `blocks` blocks.
  void (*products)(const std::uint8_t* codes, std::size_t blocks, std::size_t dim, const std::int8_t* const* queries,
                   std::size_t count, std::int32_t* out, std::size_t stride);
  // Writes the rows whose upper bound is not below `least`, with that bound; returns how many. `rows` is a multiple
  // of kScanRows. Bounds that are no numbers pass.
  std::size_t (*passing)(const std::int32_t* products, std::size_t rows, const ScanRowBounds& bounds,
                         const ScanQuery& query, float least, std::uint32_t* out, float* uppers);
};

ScanKernel scan_kernel(Level level);

}  // namespace seedbed::simd

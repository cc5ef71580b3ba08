// Matrix products of float32 in tiles: 12 vectors against 32 others, both packed component by component. Twelve rows of
// two AVX-512 registers fill the register file, so that the arithmetic and not the loads sets the pace.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kTileRows = 12, kTileColumns = 32, kTile = kTileRows * kTileColumns;

struct TileKernel {
  // out[r * 32 + c] = sum over d of rows[d * 12 + r] * columns[d * 32 + c]. All levels but the scalar round alike.
  void (*multiply)(const float* rows, const float* columns, std::size_t dim, float* out);
  // Where offsets[c] - tile[r * 32 + c] lies below best[r * 32 + c], it takes that place, and `first` + c goes into `where`.
  void (*keep_lowest)(const float* tile, const float* offsets, std::uint32_t first, float* best, std::uint32_t* where);
  // The least of 32 values and what `where` says of it, the lowest of equals. Returns that.
  std::uint32_t (*lowest)(const float* best, const std::uint32_t* where, float* value);
};

TileKernel tile_kernel(Level level);

}  // namespace seedbed::simd

#include "index/panels.hpp"

#include <limits>
#include <vector>

#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

using simd::kTile, simd::kTileColumns, simd::kTileRows;
constexpr std::size_t kGroup = 8 * kTileRows;  // rows that share each reading of a panel; they stay in the second cache

}  // namespace

void Panels::pack(const float* rows, std::size_t count, std::size_t dim, const float* origin, const float* prices) {
  count_ = count;
  dim_ = dim;
  Array<float> columns, offsets, zero;
  columns.resize(panels() * kTileColumns * dim, 0.0f);
  offsets.resize(panels() * kTileColumns, std::numeric_limits<float>::infinity());
  zero.resize(dim, 0.0f);
  if (origin) std::copy_n(origin, dim, zero.writable());
  for (std::size_t i = 0; i < count; ++i) {
    float* out = columns.writable() + i / kTileColumns * kTileColumns * dim + i % kTileColumns;
    double square = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      const float x = rows[i * dim + d] - zero[d];
      out[d * kTileColumns] = x;
      square += static_cast<double>(x) * x;
    }
    offsets.writable()[i] = static_cast<float>(square / 2) + (prices ? prices[i] : 0.0f);
  }
  columns_ = std::move(columns);
  offsets_ = std::move(offsets);
  origin_ = std::move(zero);
}

void Panels::pack_rows(const float* rows, std::size_t count, float* out) const {
  for (std::size_t r = 0; r < kTileRows; ++r)
    for (std::size_t d = 0; d < dim_; ++d) out[d * kTileRows + r] = r < count ? rows[r * dim_ + d] - origin_[d] : 0.0f;
}

void Panels::nearest(const float* rows, std::size_t count, std::size_t threads, std::uint32_t* which,
                     float* value) const {
  const simd::TileKernel kernel = simd::tile_kernel(simd::level());
  struct Space {
    std::vector<float> packed, best, tile;
    std::vector<std::uint32_t> where;
  };
  std::vector<Space> spaces(std::max<std::size_t>(1, threads));
  parallel_for((count + kGroup - 1) / kGroup, threads, [&](std::size_t worker, std::size_t group) {
    Space& space = spaces[worker];
    const std::size_t first = group * kGroup, here = std::min(kGroup, count - first);
    const std::size_t tiles = (here + kTileRows - 1) / kTileRows;
    space.packed.resize(kGroup * dim_);
    space.tile.resize(kTile);
    space.best.assign(tiles * kTile, std::numeric_limits<float>::infinity());
    space.where.assign(tiles * kTile, 0);
    for (std::size_t t = 0; t < tiles; ++t)
      pack_rows(rows + (first + t * kTileRows) * dim_, std::min(kTileRows, here - t * kTileRows),
                space.packed.data() + t * kTileRows * dim_);
    for (std::size_t panel = 0; panel < panels(); ++panel)
      for (std::size_t t = 0; t < tiles; ++t) {
        kernel.multiply(space.packed.data() + t * kTileRows * dim_, columns_.data() + panel * kTileColumns * dim_, dim_,
                        space.tile.data());
        kernel.keep_lowest(space.tile.data(), offsets_.data() + panel * kTileColumns,
                           static_cast<std::uint32_t>(panel * kTileColumns), space.best.data() + t * kTile,
                           space.where.data() + t * kTile);
      }
    for (std::size_t i = 0; i < here; ++i)
      which[first + i] = kernel.lowest(space.best.data() + i * kTileColumns, space.where.data() + i * kTileColumns,
                                       value + first + i);
  });
}

void Panels::products(const float* rows, std::size_t count, std::size_t threads, float* out) const {
  const simd::TileKernel kernel = simd::tile_kernel(simd::level());
  std::vector<std::vector<float>> spaces(std::max<std::size_t>(1, threads));
  parallel_for((count + kGroup - 1) / kGroup, threads, [&](std::size_t worker, std::size_t group) {
    std::vector<float>& packed = spaces[worker];
    const std::size_t first = group * kGroup, here = std::min(kGroup, count - first);
    packed.resize(kGroup * dim_);
    for (std::size_t r = 0; r < here; r += kTileRows)
      pack_rows(rows + (first + r) * dim_, std::min(kTileRows, here - r), packed.data() + r * dim_);
    float tile[kTile];
    for (std::size_t panel = 0; panel < panels(); ++panel)
      for (std::size_t r = 0; r < here; r += kTileRows) {
        kernel.multiply(packed.data() + r * dim_, columns_.data() + panel * kTileColumns * dim_, dim_, tile);
        const std::size_t left = panel * kTileColumns, width = std::min(kTileColumns, count_ - left);
        for (std::size_t i = 0; i < std::min(kTileRows, here - r); ++i)
          std::copy_n(tile + i * kTileColumns, width, out + (first + r + i) * count_ + left);
      }
  });
}

}  // namespace seedbed::index

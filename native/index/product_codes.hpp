// Product quantisation (Jégou, Douze & Schmid, "Product quantization for nearest neighbor search", 2011): a vector is cut into
// `subspaces` parts of `width` components, and of each part the index of the nearest entry in its codebook is kept.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/panels.hpp"
#include "index/storage.hpp"
#include "simd/fastscan.hpp"
#include "simd/tables.hpp"

namespace seedbed::index {

class ProductCodes {
 public:
  // `codebooks` is (subspaces, 2^bits, width); bits are 4 or 8.
  void set(const float* codebooks, std::size_t subspaces, std::size_t bits, std::size_t width);

  std::size_t subspaces() const { return subspaces_; }
  std::size_t dim() const { return subspaces_ * width_; }
  std::size_t entries() const { return entries_; }
  const Array<float>& codebooks() const { return books_; }
  std::size_t bytes() const;

  // Of each of `rows` (count, dim()), the nearest entries (count, subspaces).
  void encode(const float* rows, std::size_t count, std::uint8_t* codes) const;
  void decode(const std::uint8_t* codes, float* row) const;

  // Codes are stored in blocks of 32 vectors, so that a scan reads them in one stream.
  std::size_t block_bytes() const {
    return entries_ == 16 ? stored_subspaces() * simd::kMembers / 2 : subspaces_ * simd::kMembers;
  }
  void put(std::uint8_t* blocks, std::size_t position, const std::uint8_t* codes) const;
  void get(const std::uint8_t* blocks, std::size_t position, std::uint8_t* codes) const;

  // What a query needs for a scan: the inner products of its parts with all entries.
  struct Tables {
    std::vector<float> exact;
    std::vector<std::uint8_t> bytes;  // for 4-bit codes
    simd::Estimate estimate{};        // slope and offset, from sums of bytes to inner products
    simd::FastScanKernel kernel = simd::fastscan_kernel(simd::level());
  };
  void prepare(const float* query, Tables& tables) const;

  // Of a block's 32 vectors, out = base + add + scale * (inner product of the query with what the code stands for); bit i of
  // the answer is set where that is below `limit`.
  std::uint32_t estimates(const Tables& tables, const std::uint8_t* block, const float* add, const float* scale, float base,
                          float limit, float* out) const;

 private:
  std::size_t stored_subspaces() const { return (subspaces_ + simd::kLineGroups - 1) / simd::kLineGroups * simd::kLineGroups; }

  std::size_t subspaces_ = 0, width_ = 0, entries_ = 0;
  Array<float> books_, turned_;  // turned: (subspaces, width, entries)
  std::vector<Panels> panels_;   // one a subspace
};

}  // namespace seedbed::index

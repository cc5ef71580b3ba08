#include "index/product_codes.hpp"

#include <numeric>

namespace seedbed::index {
namespace {

using simd::kMembers;
constexpr std::size_t kAddable = 8;  // entries of simd::kLargestEntry

}  // namespace

void ProductCodes::set(const float* codebooks, std::size_t subspaces, std::size_t bits, std::size_t width) {
  subspaces_ = subspaces;
  width_ = width;
  entries_ = std::size_t{1} << bits;
  const std::size_t each = entries_ * width;
  books_.resize(subspaces * each, 0.0f);
  turned_.resize(subspaces * each, 0.0f);
  std::copy_n(codebooks, subspaces * each, books_.writable());
  panels_.resize(subspaces);
  for (std::size_t s = 0; s < subspaces; ++s) {
    panels_[s].pack(codebooks + s * each, entries_, width, nullptr, nullptr);
    for (std::size_t e = 0; e < entries_; ++e)
      for (std::size_t d = 0; d < width; ++d)
        turned_.writable()[s * each + d * entries_ + e] = codebooks[s * each + e * width + d];
  }
}

std::size_t ProductCodes::bytes() const {
  return std::accumulate(panels_.begin(), panels_.end(), books_.bytes() + turned_.bytes(),
                         [](std::size_t sum, const Panels& one) { return sum + one.bytes(); });
}

void ProductCodes::encode(const float* rows, std::size_t count, std::uint8_t* codes) const {
  std::vector<float> parts(count * width_), values(count);
  std::vector<std::uint32_t> which(count);
  for (std::size_t s = 0; s < subspaces_; ++s) {
    for (std::size_t i = 0; i < count; ++i)
      std::copy_n(rows + i * dim() + s * width_, width_, parts.data() + i * width_);
    panels_[s].nearest(parts.data(), count, 1, which.data(), values.data());
    for (std::size_t i = 0; i < count; ++i) codes[i * subspaces_ + s] = static_cast<std::uint8_t>(which[i]);
  }
}

void ProductCodes::decode(const std::uint8_t* codes, float* row) const {
  for (std::size_t s = 0; s < subspaces_; ++s)
    std::copy_n(books_.data() + (s * entries_ + codes[s]) * width_, width_, row + s * width_);
}

void ProductCodes::put(std::uint8_t* blocks, std::size_t position, const std::uint8_t* codes) const {
  std::uint8_t* block = blocks + position / kMembers * block_bytes();
  const std::size_t member = position % kMembers;
  for (std::size_t s = 0; s < subspaces_; ++s)
    if (entries_ == 16) simd::set_code(block, member, s, codes[s]);
    else block[s * kMembers + member] = codes[s];
}

void ProductCodes::get(const std::uint8_t* blocks, std::size_t position, std::uint8_t* codes) const {
  const std::uint8_t* block = blocks + position / kMembers * block_bytes();
  const std::size_t member = position % kMembers;
  for (std::size_t s = 0; s < subspaces_; ++s)
    codes[s] = entries_ == 16 ? block[s * 16 + member % 16] >> (member < 16 ? 0 : 4) & 15 : block[s * kMembers + member];
}

void ProductCodes::prepare(const float* query, Tables& tables) const {
  const simd::TableKernel kernel = simd::table_kernel(simd::level());
  tables.exact.resize(stored_subspaces() * entries_);
  kernel.products(query, turned_.data(), subspaces_, width_, entries_, tables.exact.data());
  if (entries_ != 16) return;
  std::fill(tables.exact.begin() + static_cast<std::ptrdiff_t>(subspaces_ * 16), tables.exact.end(), 0.0f);
  tables.bytes.resize(stored_subspaces() * 16);
  kernel.bytes(tables.exact.data(), stored_subspaces(), tables.bytes.data(), &tables.estimate.slope, &tables.estimate.offset);
}

std::uint32_t ProductCodes::estimates(const Tables& tables, const std::uint8_t* block, const float* add,
                                      const float* scale, float base, float limit, float* out) const {
  if (entries_ == 16)
    return tables.kernel.estimates(block, {tables.bytes.data(), stored_subspaces(), kAddable}, add, scale,
                                   {base, tables.estimate.slope, tables.estimate.offset, limit}, out);
  constexpr std::size_t together = 8;  // sums that stay in registers
  std::uint32_t below = 0;
  for (std::size_t first = 0; first < kMembers; first += together) {
    float sums[together] = {};
    for (std::size_t s = 0; s < subspaces_; ++s) {
      const float* table = tables.exact.data() + s * entries_;
      const std::uint8_t* codes = block + s * kMembers + first;
      for (std::size_t v = 0; v < together; ++v) sums[v] += table[codes[v]];
    }
    for (std::size_t v = 0; v < together; ++v) {
      out[first + v] = base + add[first + v] + scale[first + v] * sums[v];
      below |= static_cast<std::uint32_t>(out[first + v] < limit) << (first + v);
    }
  }
  return below;
}

}  // namespace seedbed::index

#include "text/ngrams.hpp"

#include <algorithm>

namespace seedbed::text {
namespace {

__extension__ using Product = unsigned __int128;
constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;
constexpr std::uint64_t kBase = 0x0B5F3C1D8E27A94Du % kPrime;

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  const Product product = static_cast<Product>(a) * b;
  const std::uint64_t sum = (static_cast<std::uint64_t>(product) & kPrime) + static_cast<std::uint64_t>(product >> 61);
  return sum >= kPrime ? sum - kPrime : sum;
}

}  // namespace

void KeyCounts::start(std::size_t keys) {
  std::size_t capacity = 64;
  while (capacity < 2 * keys) capacity *= 2;
  if (slots_.size() < capacity) slots_.assign(capacity, Slot{0, 0, 0, 0});
  // A small text does not wander through the memory of the largest one before it.
  mask_ = capacity - 1;
  if (++epoch_ == 0) {
    std::fill(slots_.begin(), slots_.end(), Slot{0, 0, 0, 0});
    epoch_ = 1;
  }
}

void JoinedHashes::read(const Characters& text, const std::vector<Word>& words) {
  prefixes_.assign(1, 0);
  starts_.clear();
  if (powers_.empty()) powers_.push_back(1);
  for (const Word& word : words) {
    starts_.push_back(static_cast<std::uint32_t>(prefixes_.size() - 1));
    for (std::uint32_t i = word.from; i < word.to; ++i) {
      const std::uint64_t next = times(prefixes_.back(), kBase) + text.codes[i] + 1;
      prefixes_.push_back(next >= kPrime ? next - kPrime : next);
    }
  }
  starts_.push_back(static_cast<std::uint32_t>(prefixes_.size() - 1));
  while (powers_.size() < prefixes_.size()) powers_.push_back(times(powers_.back(), kBase));
}

std::uint64_t JoinedHashes::hash(std::size_t from, std::size_t to) const {
  const std::uint32_t start = starts_[from], end = starts_[to];
  const std::uint64_t lead = times(prefixes_[start], powers_[end - start]);
  const std::uint64_t value = prefixes_[end] >= lead ? prefixes_[end] - lead : prefixes_[end] + kPrime - lead;
  return mix(value, end - start);
}

void NgramTables::make_keys(const std::vector<Word>& from, std::size_t n) {
  keys.clear();
  for (std::size_t i = 0; i + n <= from.size(); ++i) {
    std::uint64_t key = n;
    for (std::size_t k = i; k < i + n; ++k) key = mix(key, from[k].hash);
    keys.push_back(key);
  }
}

}  // namespace seedbed::text

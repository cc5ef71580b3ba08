#include "tokenizer/word_table.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>

namespace seedbed::tokenizer {
namespace {

std::uint64_t load(const char* p, std::size_t size) {
  std::uint64_t value = 0;
  std::memcpy(&value, p, size);
  return value;
}

// Up to eight bytes as one number, by loads of fixed size that may overlap.
std::uint64_t short_bytes(const char* p, std::size_t size) {
  if (size >= 4) return load(p, 4) << 32 | load(p + size - 4, 4);
  return load(p, 1) << 16 | load(p + size / 2, 1) << 8 | load(p + size - 1, 1);
}

std::uint32_t hash_of(std::string_view word) {
  constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  const char* p = word.data();
  std::size_t left = word.size();
  std::uint64_t hash = left * kMultiplier;
  if (left > 8) {
    for (; left > 8; left -= 8, p += 8) {
      hash = (hash ^ load(p, 8)) * kMultiplier;
      hash ^= hash >> 32;
    }
    hash ^= load(p + left - 8, 8);
  } else if (left > 0) {
    hash ^= short_bytes(p, left);
  }
  hash *= kMultiplier;
  hash ^= hash >> 29;
  return static_cast<std::uint32_t>(hash * kMultiplier >> 32);
}

bool equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  if (a.size() > 8) return std::memcmp(a.data(), b.data(), a.size()) == 0;
  return a.empty() || short_bytes(a.data(), a.size()) == short_bytes(b.data(), b.size());
}

}  // namespace

bool WordTable::add(std::string_view word) {
  const std::uint64_t hash = hash_of(word);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
    const std::uint64_t slot = slots_[i];
    if (slot == 0) {
      slots_[i] = hash << 32 | (append(word) + 1);
      if (4 * ++size_ > 3 * slots_.size()) grow();
      return true;
    }
    if (slot >> 32 != hash) continue;
    const std::uint32_t record = static_cast<std::uint32_t>(slot) - 1;
    if (!equal(this->word(record), word)) continue;
    std::uint64_t count;
    std::memcpy(&count, at(record), sizeof count);
    ++count;
    std::memcpy(at(record), &count, sizeof count);
    return false;
  }
}

std::uint32_t WordTable::append(std::string_view word) {
  const std::size_t size = (12 + word.size() + 7) / 8;
  if (records_size_ + size > records_capacity_) {
    const std::size_t capacity = std::max({2 * records_capacity_, records_size_ + size, std::size_t{1} << 12});
    // A large block grows by moving pages, and costs memory only where it has been written.
    auto* grown = static_cast<char*>(std::realloc(records_.get(), 8 * capacity));
    if (!grown) throw std::bad_alloc();
    static_cast<void>(records_.release());
    records_.reset(grown);
    records_capacity_ = capacity;
  }
  const auto record = static_cast<std::uint32_t>(records_size_);
  if (records_size_ + size > ~std::uint32_t{0}) throw std::length_error("more than 32 GB of different words");
  const std::uint64_t count = 1;
  const auto length = static_cast<std::uint32_t>(word.size());
  std::memcpy(at(record), &count, 8);
  std::memcpy(at(record) + 8, &length, 4);
  word.copy(at(record) + 12, word.size());
  records_size_ += size;
  return record;
}

void WordTable::grow() {
  std::vector<std::uint64_t> old(2 * slots_.size());
  old.swap(slots_);
  for (const std::uint64_t slot : old) {
    if (slot == 0) continue;
    std::size_t i = slot >> 32 & (slots_.size() - 1);
    while (slots_[i] != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
}

std::vector<WordTable::Key> WordTable::take_sorted() {
  slots_ = {};
  std::vector<Key> keys;
  keys.reserve(size_);
  for (std::size_t record = 0; record < records_size_;) {
    const std::string_view bytes = word(static_cast<std::uint32_t>(record));
    std::uint64_t start = 0;
    for (std::size_t i = 0; i < 8; ++i)
      start = start << 8 | (i < bytes.size() ? static_cast<std::uint8_t>(bytes[i]) : 0);
    keys.push_back({start, static_cast<std::uint32_t>(record)});
    record += (12 + bytes.size() + 7) / 8;
  }
  std::sort(keys.begin(), keys.end(), [this](const Key& a, const Key& b) {
    return a.start != b.start ? a.start < b.start : word(a.record) < word(b.record);
  });
  return keys;
}

}  // namespace seedbed::tokenizer

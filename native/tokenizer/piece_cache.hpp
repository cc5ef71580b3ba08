// From word to pieces for words that were seen before: one thread's own tables of fixed size, in which a new word takes
// the place of an older one. Words are compared whole, so what is found is exact.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

class PieceCache {
 public:
  static constexpr std::size_t kShortBytes = 15;
  struct Key {  // the bytes of a short word, zero-padded, and its length in the last byte
    std::uint64_t low, high;
  };

  // `readable` bytes may be read from the start of the word, whatever they hold.
  static Key key_of(std::string_view word, std::size_t readable) {
    Key key{0, 0};
    if (readable < 16) {
      std::memcpy(&key, word.data(), word.size());
    } else {
      std::memcpy(&key, word.data(), 16);
      if (word.size() < 8) {
        key.low &= (std::uint64_t{1} << 8 * word.size()) - 1;
        key.high = 0;
      } else {
        key.high &= (std::uint64_t{1} << 8 * (word.size() - 8)) - 1;
      }
    }
    key.high |= std::uint64_t{word.size()} << 56;
    return key;
  }
  static std::uint32_t hash_of(std::string_view word) {
    std::uint64_t hash = word.size();
    for (std::size_t i = 0; i < word.size(); i += 8) {
      std::uint64_t part = 0;
      std::memcpy(&part, word.data() + i, word.size() - i < 8 ? word.size() - i : 8);
      hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
    return static_cast<std::uint32_t>(hash >> 32);
  }

  struct alignas(64) Short {  // up to 15 bytes: one cache line
    static constexpr std::size_t kIds = 10;
    std::uint64_t low = 0, high = 0;  // of its key
    std::uint32_t count = 0;
    float slack = 0;
    std::uint32_t ids[kIds] = {};
  };
  struct Long {
    static constexpr std::size_t kBytes = 88, kIds = 38;
    std::uint32_t hash = 0;
    std::uint16_t length = 0, count = 0;
    float slack = 0;
    char bytes[kBytes] = {};
    std::uint32_t ids[kIds] = {};
  };

  PieceCache() : short_(std::size_t{1} << kShortBits), long_(std::size_t{1} << kLongBits) {}

  Short& at(Key key) {
    const std::uint64_t mixed = (key.low ^ key.high * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return short_[mixed >> (64 - kShortBits)];
  }
  Long& at(std::uint32_t hash) { return long_[hash >> (32 - kLongBits)]; }

  static bool holds(const Short& slot, Key key) { return slot.low == key.low && slot.high == key.high; }
  static bool holds(const Long& slot, std::string_view word, std::uint32_t hash) {
    return slot.hash == hash && slot.length == word.size() && std::memcmp(slot.bytes, word.data(), word.size()) == 0;
  }
  static void fill(Short& slot, Key key, float slack, const std::uint32_t* ids, std::size_t count) {
    if (count > Short::kIds) return;
    slot = {key.low, key.high, static_cast<std::uint32_t>(count), slack, {}};
    std::memcpy(slot.ids, ids, count * sizeof *ids);
  }
  static void fill(Long& slot, std::string_view word, std::uint32_t hash, float slack, const std::uint32_t* ids,
                   std::size_t count) {
    if (count > Long::kIds) return;
    slot.hash = hash;
    slot.length = static_cast<std::uint16_t>(word.size());
    slot.count = static_cast<std::uint16_t>(count);
    slot.slack = slack;
    std::memcpy(slot.bytes, word.data(), word.size());
    std::memcpy(slot.ids, ids, count * sizeof *ids);
  }

 private:
  static constexpr int kShortBits = 16, kLongBits = 14;
  std::vector<Short> short_;
  std::vector<Long> long_;
};

}  // namespace seedbed::tokenizer

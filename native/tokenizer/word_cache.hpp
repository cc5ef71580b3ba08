// From pre-token to ids without merging: natural text repeats its words, so nearly every word has been seen before.
//
// Two tables of fixed size, one thread's own, in which a new word takes the place of an older one. Memory is bounded
// whatever the text; a word that lost its place is merged again when it comes back. Entries are exact: the whole word
// is compared, not its hash. The tables are larger than the fast caches of a processor, so a caller that knows its next
// words prefetches their buckets before it asks for the first.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

class WordCache {
 public:
  // Most words: up to 15 bytes and 3 ids, in half a cache line.
  struct ShortSlot {
    std::uint64_t low = 0, high = 0;  // the bytes, zero-padded, and the length in the last byte: never 0, 0
    std::uint32_t count = 0;
    std::uint32_t ids[3] = {};
  };
  struct alignas(64) Bucket {  // one cache line: the newer word first
    ShortSlot slots[2];
  };
  struct LongSlot {
    static constexpr std::size_t kBytes = 56, kIds = 24;
    std::uint32_t hash = 0;
    std::uint16_t length = 0, count = 0;
    char bytes[kBytes] = {};
    std::uint32_t ids[kIds] = {};
  };
  static constexpr std::size_t kShortBytes = 15, kShortIds = 3;

  WordCache() : buckets_(std::size_t{1} << kBucketBits), long_(std::size_t{1} << kLongBits) {}

  struct Key {
    std::uint64_t low, high;
  };

  // The key of a word of 1 to 15 bytes. `readable` bytes may be read from its start, whatever they hold.
  static Key key_of(const std::uint8_t* word, std::size_t length, std::size_t readable) {
    Key key{0, 0};
    if (readable >= 16) {
      std::memcpy(&key, word, 16);
      if (length < 8) {
        key.low &= (std::uint64_t{1} << 8 * length) - 1;
        key.high = 0;
      } else {
        key.high &= (std::uint64_t{1} << 8 * (length - 8)) - 1;
      }
    } else {
      std::memcpy(&key, word, length);
    }
    key.high |= std::uint64_t{length} << 56;
    return key;
  }

  Bucket* bucket(Key key) {
    const std::uint64_t mixed = (key.low ^ (key.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return &buckets_[(mixed ^ mixed >> 31) >> 7 & ((std::size_t{1} << kBucketBits) - 1)];
  }
  static void prefetch(const Bucket* bucket) { __builtin_prefetch(bucket, 1); }
  static const ShortSlot* find(const Bucket& bucket, Key key) {
    for (const ShortSlot& slot : bucket.slots)
      if (slot.low == key.low && slot.high == key.high) return &slot;
    return nullptr;
  }
  static void fill(Bucket& bucket, Key key, const std::uint32_t* ids, std::size_t count) {
    if (count > kShortIds) return;
    bucket.slots[1] = bucket.slots[0];
    ShortSlot& slot = bucket.slots[0];
    slot.low = key.low;
    slot.high = key.high;
    slot.count = static_cast<std::uint32_t>(count);
    std::memcpy(slot.ids, ids, count * sizeof *ids);
  }

  LongSlot& long_slot(std::uint32_t hash) { return long_[hash & ((std::size_t{1} << kLongBits) - 1)]; }
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
  static bool holds(const LongSlot& slot, std::string_view word, std::uint32_t hash) {
    return slot.hash == hash && slot.length == word.size() && std::memcmp(slot.bytes, word.data(), word.size()) == 0;
  }
  static void fill(LongSlot& slot, std::string_view word, std::uint32_t hash, const std::uint32_t* ids, std::size_t count) {
    if (count > LongSlot::kIds) return;
    slot.hash = hash;
    slot.length = static_cast<std::uint16_t>(word.size());
    slot.count = static_cast<std::uint16_t>(count);
    std::memcpy(slot.bytes, word.data(), word.size());
    std::memcpy(slot.ids, ids, count * sizeof *ids);
  }

 private:
  static constexpr int kBucketBits = 16, kLongBits = 14;
  std::vector<Bucket> buckets_;
  std::vector<LongSlot> long_;
};

}  // namespace seedbed::tokenizer

// From pre-token to ids without merging: natural text repeats its words, so nearly every word has been seen before.
//
// Two tables, one thread's own, in which a new word takes the place of an older one. The table of short words doubles
// as long as new words drive out old ones, up to a fixed size: memory is bounded whatever the text, and a word that lost
// its place is merged again when it comes back. Entries are exact: the whole word is compared, not its hash. The tables
// are larger than the fast caches of a processor, so a caller that knows its next words prefetches their buckets before
// it asks for the first.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::tokenizer {

class WordCache {
 public:
  static constexpr std::size_t kShortBytes = 15, kShortIds = 3;

  // The bytes of a word of 1 to 15 bytes, zero-padded, and its length in the last byte: never 0, 0.
  struct Key {
    std::uint64_t low = 0, high = 0;
    bool operator==(const Key&) const = default;
  };

  // Most words: in half a cache line.
  struct ShortSlot {
    Key key;
    std::uint32_t ids[kShortIds] = {};
    std::uint32_t count = 0;  // kInLong: more ids than fit, so they are in the table of long words, perhaps
  };
  static constexpr std::uint32_t kInLong = ~std::uint32_t{0};
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

  WordCache() : buckets_(std::size_t{1} << kLeastBits), long_(std::size_t{1} << kLongBits) {}

  // `readable` bytes may be read from the start of the word, whatever they hold.
  static Key key_of(const std::uint8_t* word, std::size_t length, std::size_t readable) {
    Key key;
    if (readable >= 16) {
      std::memcpy(&key, word, 16);
      key.low &= kMasks[length & 15];  // a table, as no branch could guess the length
      key.high &= kMasks[length > 8 ? (length - 8) & 7 : 0];
    } else {
      std::memcpy(&key, word, length);
    }
    key.high |= std::uint64_t{length} << 56;
    return key;
  }

  static std::size_t hash_of(Key key) {
    const std::uint64_t mixed = (key.low ^ (key.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return (mixed ^ mixed >> 31) >> 7;
  }
  void prefetch(std::size_t hash) const { __builtin_prefetch(&bucket(hash)); }
  const ShortSlot* find(std::size_t hash, Key key) const {
    for (const ShortSlot& slot : bucket(hash).slots)
      if (slot.key == key) return &slot;
    return nullptr;
  }
  void fill(std::size_t hash, Key key, const std::uint32_t* ids, std::size_t count) {
    ShortSlot slot{key, {}, kInLong};
    if (count <= kShortIds) {
      slot.count = static_cast<std::uint32_t>(count);
      std::memcpy(slot.ids, ids, count * sizeof *ids);
    }
    driven_out_ += put(buckets_, hash, slot);
    if (driven_out_ > buckets_.size() / 4 && buckets_.size() < std::size_t{1} << kMostBits) grow();
  }

  LongSlot& long_slot(std::uint32_t hash) { return long_[hash & (long_.size() - 1)]; }
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
  static constexpr std::array<std::uint64_t, 16> kMasks = [] {  // the lowest so many bytes, 8 at most
    std::array<std::uint64_t, 16> masks{};
    for (std::size_t i = 0; i < masks.size(); ++i)
      masks[i] = i < 8 ? (std::uint64_t{1} << 8 * i) - 1 : ~std::uint64_t{0};
    return masks;
  }();
  static constexpr int kLeastBits = 10, kMostBits = 18, kLongBits = 14;
  using Buckets = std::vector<Bucket, HugePages<Bucket>>;

  const Bucket& bucket(std::size_t hash) const { return buckets_[hash & (buckets_.size() - 1)]; }
  static bool put(Buckets& buckets, std::size_t hash, const ShortSlot& slot) {  // whether it drove another out
    Bucket& bucket = buckets[hash & (buckets.size() - 1)];
    const bool full = bucket.slots[1].count != 0;
    bucket.slots[1] = bucket.slots[0];
    bucket.slots[0] = slot;
    return full;
  }
  void grow() {
    Buckets more(buckets_.size() * 2);
    for (const Bucket& bucket : buckets_)
      for (const int i : {1, 0})  // the newer one last
        if (bucket.slots[i].count) put(more, hash_of(bucket.slots[i].key), bucket.slots[i]);
    buckets_ = std::move(more);
    driven_out_ = 0;
  }

  Buckets buckets_;
  std::size_t driven_out_ = 0;  // since the table last grew
  std::vector<LongSlot> long_;
};

}  // namespace seedbed::tokenizer

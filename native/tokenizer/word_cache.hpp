// From pre-token to ids without merging: natural text repeats its words, so nearly every word has been seen before.
//
// Two tables, one thread's own. The one of short words doubles when half of it is used, up to a fixed size, and then
// starts anew when many words were driven out; the one of long words and many ids starts anew when it is full. So
// memory is bounded whatever the text, and a word that lost its place is merged again when it comes back. Entries are
// exact: the whole word is compared, not its hash. The tables are larger than the fast caches of a processor, so
// known_words.hpp prefetches the buckets of many words before it looks for the first.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::tokenizer {

// Ids of words that are long or become many ids. When it is full it starts anew, and no place in it holds any more.
class ManyIds {
 public:
  static constexpr std::size_t kMostBytes = 256;  // of a word

  struct Place {
    std::uint32_t start = 0, count = 0, generation = 0;
  };
  std::span<const std::uint32_t> at(Place place) const {  // empty if the place no longer holds
    if (place.generation != generation_) return {};
    return {pool_.data() + place.start, place.count};
  }
  Place add(std::span<const std::uint32_t> ids) {
    if (pool_.size() > kMostPool) clear();
    const Place place{static_cast<std::uint32_t>(pool_.size()), static_cast<std::uint32_t>(ids.size()), generation_};
    pool_.insert(pool_.end(), ids.begin(), ids.end());
    return place;
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
  void prefetch(std::uint32_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash & (kSlots - 1)]);
  }
  std::span<const std::uint32_t> find(std::string_view word, std::uint32_t hash) const {  // empty if it is not there
    if (slots_.empty()) return {};
    for (std::size_t i = hash;; ++i) {
      const Slot& slot = slots_[i & (kSlots - 1)];
      if (!slot.count) return {};
      if (slot.hash == hash && slot.length == word.size() &&
          std::memcmp(pool_.data() + slot.start + slot.count, word.data(), word.size()) == 0)
        return {pool_.data() + slot.start, slot.count};
    }
  }
  void add(std::string_view word, std::uint32_t hash, std::span<const std::uint32_t> ids) {
    if (2 * (used_ + 1) > kSlots) clear();
    const Place place = add(ids);
    if (slots_.empty()) slots_.resize(kSlots);
    std::size_t i = hash;
    while (slots_[i & (kSlots - 1)].count) ++i;
    slots_[i & (kSlots - 1)] = {hash, static_cast<std::uint32_t>(word.size()), place.start, place.count};
    ++used_;
    pool_.resize(pool_.size() + (word.size() + 3) / 4);
    std::memcpy(pool_.data() + place.start + place.count, word.data(), word.size());
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 16, kMostPool = std::size_t{1} << 20;
  struct Slot {
    std::uint32_t hash, length, start, count;  // count 0: empty
  };
  void clear() {
    slots_.clear();
    pool_.clear();
    used_ = 0;
    ++generation_;
  }
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> pool_;  // ids, and behind those of a word in a slot its bytes
  std::size_t used_ = 0;
  std::uint32_t generation_ = 0;
};

// The bytes of a word of 1 to 15 bytes, zero-padded, and its length in the last byte: never 0, 0.
struct ShortWord {
  std::uint64_t low, high;
  bool operator==(const ShortWord& other) const { return ((low ^ other.low) | (high ^ other.high)) == 0; }
};

class WordCache {
 public:
  static constexpr std::size_t kShortBytes = 15, kShortIds = 3;

  using Key = ShortWord;

  // Most words: in half a cache line.
  struct ShortSlot {
    Key key;
    std::uint32_t ids[kShortIds] = {};
    std::uint32_t count = 0;  // kMany: more ids than fit; here is their place in many_ids
  };
  static constexpr std::uint32_t kMany = ~std::uint32_t{0};
  struct alignas(64) Bucket {  // one cache line; a full one lends places from its neighbours
    ShortSlot slots[2];
  };

  // `readable` bytes may be read from the start of the word, whatever they hold.
  static Key key_of(const char* word, std::size_t length, std::size_t readable) {
    Key key{};
    std::memcpy(&key, word, readable >= sizeof key ? sizeof key : length);
    const Key& mask = kMasks[length & kShortBytes];  // a table, as no branch could guess the length
    key.low &= mask.low;
    key.high = (key.high & mask.high) | std::uint64_t{length} << 56;
    return key;
  }

  // Only such steps as registers of any width have (known_words.cpp).
  static constexpr Key kSalt{0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u};
  static std::uint32_t hash_of(Key key) {
    const auto product = [](std::uint64_t part) { return (part & 0xFFFFFFFFu) * (part >> 32); };
    const std::uint64_t mixed = product(key.low ^ kSalt.low) ^ product(key.high ^ kSalt.high);
    return static_cast<std::uint32_t>(mixed ^ mixed >> 32);
  }
  const Bucket& bucket(std::size_t hash) const { return buckets_[hash & mask_]; }
  void prefetch(std::size_t hash) const { __builtin_prefetch(&bucket(hash)); }
  ShortSlot* find(std::size_t hash, Key key) {
    for (std::size_t i = 0; i < kGroup; ++i)
      for (ShortSlot& slot : buckets_[(hash ^ i) & mask_].slots) {
        if (slot.key == key) return &slot;
        if (!slot.count) return nullptr;  // words are put into the first empty place
      }
    return nullptr;
  }
  void fill(std::size_t hash, Key key, std::span<const std::uint32_t> ids) {
    ShortSlot slot{key};
    refill(slot, ids);
    const bool driven_out = !put(buckets_, hash, slot);
    used_ += !driven_out;
    driven_out_ += driven_out;
    const bool full = may_grow() ? used_ > buckets_.size() : driven_out_ > buckets_.size() / 8;
    if (full) make_room();
  }

  // Empty if the slot's count is kMany and they are gone, until it is refilled.
  std::span<const std::uint32_t> ids_of(const ShortSlot& slot) const {
    if (slot.count != kMany) return {slot.ids, slot.count};
    return many_ids.at({slot.ids[0], slot.ids[1], slot.ids[2]});
  }
  void refill(ShortSlot& slot, std::span<const std::uint32_t> ids) {
    if (ids.size() <= kShortIds) {
      slot.count = static_cast<std::uint32_t>(ids.size());
      std::copy(ids.begin(), ids.end(), slot.ids);
      return;
    }
    const ManyIds::Place place = many_ids.add(ids);
    slot.count = kMany;
    slot.ids[0] = place.start;
    slot.ids[1] = place.count;
    slot.ids[2] = place.generation;
  }

  ManyIds many_ids;

 private:
  static constexpr std::array<Key, kShortBytes + 1> kMasks = [] {  // the lowest so many bytes
    std::array<Key, kShortBytes + 1> masks{};
    for (std::size_t i = 0; i < masks.size(); ++i) {
      masks[i].low = i < 8 ? (std::uint64_t{1} << 8 * i) - 1 : ~std::uint64_t{0};
      masks[i].high = i > 8 ? (std::uint64_t{1} << 8 * (i - 8)) - 1 : 0;
    }
    return masks;
  }();
  static constexpr int kLeastBits = 10, kMostBits = 18;
  static constexpr std::size_t kGroup = 8;
  using Buckets = std::vector<Bucket, HugePages<Bucket>>;

  // Frequent words tend to come first and so keep the places that are looked at first. Returns whether no other word
  // was driven out.
  static bool put(Buckets& buckets, std::size_t hash, const ShortSlot& slot) {
    for (std::size_t i = 0; i < kGroup; ++i)
      for (ShortSlot& place : buckets[(hash ^ i) & (buckets.size() - 1)].slots)
        if (!place.count) {
          place = slot;
          return true;
        }
    buckets[(hash ^ (kGroup - 1)) & (buckets.size() - 1)].slots[1] = slot;
    return false;
  }
  bool may_grow() const { return buckets_.size() < std::size_t{1} << kMostBits; }
  void make_room() {
    const bool grows = may_grow();
    Buckets fresh(buckets_.size() << grows);
    used_ = driven_out_ = 0;
    if (grows)  // else the words have become others: start anew
      for (const std::size_t s : {0, 1})
        for (const Bucket& bucket : buckets_)
          if (bucket.slots[s].count) used_ += put(fresh, hash_of(bucket.slots[s].key), bucket.slots[s]);
    buckets_ = std::move(fresh);
    mask_ = buckets_.size() - 1;
  }

  Buckets buckets_ = Buckets(std::size_t{1} << kLeastBits);
  std::size_t mask_ = buckets_.size() - 1;
  std::size_t used_ = 0, driven_out_ = 0;  // places, and words, since the table last grew
};

}  // namespace seedbed::tokenizer

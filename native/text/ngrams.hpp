// Which runs of n words repeat in one text.
#pragma once
#include <cstdint>
#include <vector>

#include "text/characters.hpp"

namespace seedbed::text {

// A hash table of one text's keys, emptied without touching its memory again.
class KeyCounts {
 public:
  struct Slot {
    std::uint64_t key;
    std::uint32_t count, first, epoch;
  };
  void start(std::size_t keys);
  // The slot of a key, whose `count` is 0 when it is new.
  Slot& at(std::uint64_t key) {
    for (std::size_t i = static_cast<std::size_t>(key) & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.epoch != epoch_) {
        slot = {key, 0, 0, epoch_};
        return slot;
      }
      if (slot.key == key) return slot;
    }
  }

 private:
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::uint32_t epoch_ = 0;
};

// Hashes of the characters of consecutive words written without spaces: a polynomial modulo 2^61 - 1.
class JoinedHashes {
 public:
  void read(const Characters& text, const std::vector<Word>& words);
  // Characters before word i.
  std::uint32_t before(std::size_t i) const { return starts_[i]; }
  std::uint64_t hash(std::size_t from, std::size_t to) const;

 private:
  std::vector<std::uint64_t> prefixes_, powers_;
  std::vector<std::uint32_t> starts_;
};

class NgramTables {
 public:
  KeyCounts counts;
  JoinedHashes joined;
  std::vector<Word> words;
  std::vector<std::uint64_t> keys;
  std::vector<std::uint8_t> covered;

  // keys[i] stands for the words i to i + n - 1, with their bounds.
  void make_keys(const std::vector<Word>& from, std::size_t n);
};

}  // namespace seedbed::text

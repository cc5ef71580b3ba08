// How often each pair of symbols occurs: open addressing, linear probing. Pairs whose count is zero are as good as
// absent and are dropped when the table is rebuilt.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tokenizer/pair_map.hpp"

namespace seedbed::tokenizer {

class PairCounts {
 public:
  std::int64_t operator[](Pair pair) const {
    for (std::size_t i = start(pair);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].pair == pair) return slots_[i].count;
      if (slots_[i].pair == kEmpty) return 0;
    }
  }

  // Returns the count after the change.
  std::int64_t change(Pair pair, std::int64_t difference) {
    if (4 * (used_ + 1) > 3 * slots_.size()) rebuild();
    for (std::size_t i = start(pair);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].pair == pair) return slots_[i].count += difference;
      if (slots_[i].pair == kEmpty) {
        ++used_;
        slots_[i] = {pair, difference};
        return difference;
      }
    }
  }

  void prefetch(Pair pair) const { __builtin_prefetch(&slots_[start(pair)], 1); }

 private:
  static constexpr Pair kEmpty = ~Pair{0};  // no id is 2^32 - 1
  struct Slot {
    Pair pair = kEmpty;
    std::int64_t count = 0;
  };

  std::size_t start(Pair pair) const {
    const Pair mixed = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u;
    return (mixed ^ mixed >> 32) & (slots_.size() - 1);
  }

  void rebuild() {
    std::size_t live = 0;
    for (const Slot& slot : slots_) live += slot.count != 0;
    std::vector<Slot> old(2 * live > slots_.size() ? 2 * slots_.size() : slots_.size());
    old.swap(slots_);
    used_ = live;
    for (const Slot& slot : old) {
      if (slot.count == 0) continue;
      std::size_t i = start(slot.pair);
      while (slots_[i].pair != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(1024);
  std::size_t used_ = 0;
};

}  // namespace seedbed::tokenizer

// A hash map from a pair of token ids to a small value: open addressing, linear probing, no removal.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace seedbed::tokenizer {

using Pair = std::uint64_t;  // left id in the upper half: comparing pairs compares (left, right)

inline Pair pair_of(std::uint32_t left, std::uint32_t right) { return Pair{left} << 32 | right; }
inline std::uint32_t left_of(Pair pair) { return static_cast<std::uint32_t>(pair >> 32); }
inline std::uint32_t right_of(Pair pair) { return static_cast<std::uint32_t>(pair); }

template <class Value>
class PairMap {
 public:
  PairMap() : slots_(16) {}

  const Value* find(Pair pair) const {
    for (std::size_t i = start(pair);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].pair == pair) return &slots_[i].value;
      if (slots_[i].pair == kEmpty) return nullptr;
    }
  }

  // The value of `pair`, made with Value{} if it is new.
  Value& operator[](Pair pair) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    for (std::size_t i = start(pair);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].pair == pair) return slots_[i].value;
      if (slots_[i].pair == kEmpty) {
        ++count_;
        slots_[i].pair = pair;
        return slots_[i].value;
      }
    }
  }

  template <class Visit>
  void for_each(Visit&& visit) {
    for (Slot& slot : slots_)
      if (slot.pair != kEmpty) visit(slot.pair, slot.value);
  }

  std::size_t size() const { return count_; }
  void clear() {
    slots_.assign(16, Slot{});
    count_ = 0;
  }

 private:
  static constexpr Pair kEmpty = ~Pair{0};  // no id is 2^32 - 1
  struct Slot {
    Pair pair = kEmpty;
    Value value{};
  };

  std::size_t start(Pair pair) const {
    const Pair mixed = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u;
    return (mixed ^ mixed >> 32) & (slots_.size() - 1);
  }

  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (Slot& slot : old) {
      if (slot.pair == kEmpty) continue;
      std::size_t i = start(slot.pair);
      while (slots_[i].pair != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = std::move(slot);
    }
  }

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

}  // namespace seedbed::tokenizer

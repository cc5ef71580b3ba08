// Which digest came first: an open-addressed table of 16 bytes of each digest and its number.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace seedbed::text {

class DigestTable {
 public:
  // The number that the digest was first added with; `number` itself when it is new.
  std::uint32_t add(const char* digest, std::uint32_t number) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    Slot wanted{};
    std::memcpy(wanted.words, digest, sizeof wanted.words);
    wanted.number = number + 1;
    Slot& slot = find(wanted);
    if (slot.number) return slot.number - 1;
    slot = wanted;
    ++size_;
    return number;
  }
  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint32_t words[4];
    std::uint32_t number;  // plus one; 0 is an empty slot
  };
  Slot& find(const Slot& wanted) {
    std::uint64_t start;
    std::memcpy(&start, wanted.words, sizeof start);
    for (std::size_t i = static_cast<std::size_t>(start) & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1))
      if (!slots_[i].number || std::memcmp(slots_[i].words, wanted.words, sizeof wanted.words) == 0) return slots_[i];
  }
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 1024 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.number) find(slot) = slot;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace seedbed::text

// A set of byte strings with a value each, as a trie in two arrays: one step of a walk is one addition and one look.
//
// Aoe (1989), "An efficient digital search algorithm by using a double-array structure".
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace seedbed::tokenizer {

class DoubleArray {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  // Of equal keys the last one counts; empty ones are left out.
  explicit DoubleArray(std::vector<std::pair<std::string, std::uint32_t>> entries);

  // Calls found(length, value) for every key that `text` starts with, the shortest first.
  template <class Found>
  void prefixes(const char* text, const char* end, Found&& found) const {
    std::uint32_t node = 0;
    for (const char* p = text; p < end; ++p) {
      const std::uint32_t next = nodes_[node].base + static_cast<std::uint8_t>(*p);
      if (nodes_[next].parent != node) return;
      node = next;
      if (nodes_[node].value != kNone) found(static_cast<std::uint32_t>(p + 1 - text), nodes_[node].value);
    }
  }

  // The value of a key; kNone if there is none.
  std::uint32_t find(std::string_view key) const {
    std::uint32_t value = kNone;
    prefixes(key.data(), key.data() + key.size(), [&](std::uint32_t length, std::uint32_t of) {
      if (length == key.size()) value = of;
    });
    return value;
  }

 private:
  struct Node {
    std::uint32_t base = 0, parent = kNone, value = kNone;
  };
  using Entry = std::pair<std::string, std::uint32_t>;
  void place(const std::vector<Entry>& entries);
  std::uint32_t free_base(const std::vector<std::uint8_t>& bytes);

  std::vector<Node> nodes_;          // 256 more than are in use, so that a step needs no check
  std::size_t first_free_ = 1;  // before it nothing, or too little, is free
};

}  // namespace seedbed::tokenizer

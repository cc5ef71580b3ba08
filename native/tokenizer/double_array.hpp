// A set of byte strings with a value each, as a trie in two arrays: one step of a walk is one addition and one look.
//
// Aoe (1989), "An efficient digital search algorithm by using a double-array structure".
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::tokenizer {

class DoubleArray {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  // Of equal keys the last one counts; empty ones are left out.
  explicit DoubleArray(std::vector<std::pair<std::string, std::uint32_t>> entries);

  // Calls found(length, value) for every key that `text` starts with, the shortest first.
  template <class Found>
  void prefixes(const char* text, const char* end, Found&& found) const {
    std::uint32_t node = nodes_[0];
    for (const char* p = text; p < end; ++p) {
      const auto byte = static_cast<std::uint8_t>(*p);
      const std::uint32_t next = (node >> 1) + byte;
      if (labels_[next] != byte) return;
      node = nodes_[next];
      if (node & 1) found(static_cast<std::uint32_t>(p + 1 - text), values_[next]);
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
  using Entry = std::pair<std::string, std::uint32_t>;
  class Slots;
  void place(const std::vector<Entry>& entries);
  void resize(std::size_t slots);

  // Of each slot: where its children lie, shifted by one, and whether a key ends here; the value of that key; the byte
  // that leads here, which says whose child this is, as no two nodes have their children at one place. There are 256
  // slots more than are in use, so that a step needs no check.
  std::vector<std::uint32_t, HugePages<std::uint32_t>> nodes_, values_;
  std::vector<std::uint8_t> labels_;
};

}  // namespace seedbed::tokenizer

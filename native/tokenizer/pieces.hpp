// Pieces of a text, some hundred at a time: what is found of many at once goes on to the next step as arrays.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace seedbed::tokenizer {

// Pieces that are not empty, in the order of the text. Places are counted from `base`, in four bytes.
struct Pieces {
  static constexpr std::size_t kMost = 192;
  static constexpr std::size_t kSpare = 17;  // may be written behind the last
  static constexpr std::size_t kMostBytes = ~std::uint32_t{0};

  const char* base;
  std::size_t count = 0;
  std::uint32_t starts[kMost + kSpare], ends[kMost + kSpare];

  void restart(const char* at) {
    base = at;
    count = 0;
  }
  bool reaches(const char* to) const { return static_cast<std::size_t>(to - base) < kMostBytes; }
  void put(const char* from, const char* to) {
    starts[count] = static_cast<std::uint32_t>(from - base);
    ends[count++] = static_cast<std::uint32_t>(to - base);
  }
  std::string_view operator[](std::size_t i) const { return {base + starts[i], ends[i] - starts[i]}; }
};

}  // namespace seedbed::tokenizer

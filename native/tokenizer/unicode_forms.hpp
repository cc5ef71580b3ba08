// Characters as code points: reading and writing UTF-8, normal forms and lower case of single characters, BERT's classes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "tokenizer/unicode_forms_tables.hpp"

namespace seedbed::tokenizer {

// The bits of a character's kind. Stable in a form: it stays as it is, and nothing before it can change with it.
enum Flag : std::uint16_t {
  kStableNfc = 1,
  kStableNfd = 2,
  kStableNfkc = 4,
  kStableNfkd = 8,
  kAnyMark = 16,
  kNonspacing = 32,
  kControl = 64,      // what BERT's clean_text drops
  kPunctuation = 128,  // as BERT has it: with the symbols of ASCII
  kIdeograph = 256,   // what handle_chinese_chars sets apart
  kCased = 512,       // has another lower case
  kBlank = 1024,      // \s
};

// A character, or a byte that is no part of UTF-8 as a number past all characters.
struct CodePoint {
  static constexpr std::uint32_t kBytes = 0x110000;
  std::uint32_t value;
  std::uint32_t length;  // in bytes
};

inline CodePoint read_code_point(const char* p, const char* end) {
  const auto byte = [p](int i) { return static_cast<std::uint32_t>(static_cast<std::uint8_t>(p[i])); };
  const auto continues = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const auto left = end - p;
  if (lead >= 0xC2 && lead < 0xE0 && left >= 2 && continues(1)) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead >= 0xE0 && lead < 0xF0 && left >= 3 && continues(1) && continues(2)) {
    const std::uint32_t value = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (value >= 0x800 && (value < 0xD800 || value >= 0xE000)) return {value, 3};
  }
  if (lead >= 0xF0 && lead < 0xF5 && left >= 4 && continues(1) && continues(2) && continues(3)) {
    const std::uint32_t value = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (value >= 0x10000 && value < 0x110000) return {value, 4};
  }
  return {CodePoint::kBytes + lead, 1};
}

// How many bytes of ASCII a text begins with.
inline std::size_t ascii_prefix(const char* p, const char* end) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080u;
  const char* const start = p;
  for (std::uint64_t eight; end - p >= 8; p += 8) {
    std::memcpy(&eight, p, 8);
    if (eight & kHighBits) break;
  }
  while (p < end && static_cast<std::uint8_t>(*p) < 0x80) ++p;
  return static_cast<std::size_t>(p - start);
}

// Appends a character as UTF-8, or the byte that a number past all characters stands for.
void append_code_point(std::uint32_t code, std::string& out);

inline unicode_forms::Kind kind_of(std::uint32_t code) {
  if (code >= CodePoint::kBytes) return {0, kStableNfc | kStableNfd | kStableNfkc | kStableNfkd};
  return unicode_forms::kinds[unicode_forms::kind_of[unicode_forms::blocks[code >> 7]][code & 127]];
}

// The full decomposition of a character into `room`, which has place for kLongestDecomposition: how many there are.
constexpr std::size_t kLongestDecomposition = 18;
std::size_t decompose(std::uint32_t code, bool compatible, std::uint32_t* room);

// What two neighbours compose to; 0 if they do not.
std::uint32_t compose(std::uint32_t first, std::uint32_t second);

// The lower case of a character of the flag kCased.
std::span<const std::uint32_t> lower_case(std::uint32_t code);

}  // namespace seedbed::tokenizer

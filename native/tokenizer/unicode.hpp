// Classes of characters, read from UTF-8. Bytes that are not UTF-8 count as one character each, of no class.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "tokenizer/unicode_tables.hpp"

namespace seedbed::tokenizer {

enum Class : std::uint8_t {
  kUpper = 1,        // \p{Lu} \p{Lt}
  kLower = 2,        // \p{Ll}
  kOtherLetter = 4,  // \p{Lm} \p{Lo}
  kMark = 8,         // \p{M}
  kNumber = 16,      // \p{N}
  kSpace = 32,       // \s
  kNewline = 64,     // [\r\n], which are \s too
  kWord = 128,       // \w
};
constexpr std::uint8_t kLetter = kUpper | kLower | kOtherLetter;  // \p{L}

inline std::uint8_t class_of(std::uint32_t code) {
  const std::uint32_t block = code >> 7;
  const std::uint32_t last = unicode_tables::kBlocks - 1;
  return unicode_tables::classes[unicode_tables::blocks[block < last ? block : last]][code & 127];
}

struct Character {
  std::uint8_t classes;
  std::uint8_t length;  // in bytes
};

inline bool continues(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the character that begins at `at`, told from its first byte alone and within the text.
inline std::size_t character_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<std::uint8_t>(text[at]);
  return std::min<std::size_t>(lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4, text.size() - at);
}

// The character at p (p < end).
inline Character read_character(const std::uint8_t* p, const std::uint8_t* end) {
  const std::uint32_t lead = p[0];
  if (lead < 0x80) return {unicode_tables::classes[0][lead], 1};
  const auto left = end - p;
  if (lead >= 0xE0 && lead < 0xF0 && left >= 3 && continues(p[1]) && continues(p[2]))
    return {class_of((lead & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu)), 3};
  if (lead >= 0xC2 && lead < 0xE0 && left >= 2 && continues(p[1]))
    return {class_of((lead & 0x1F) << 6 | (p[1] & 0x3Fu)), 2};
  if (lead >= 0xF0 && lead < 0xF5 && left >= 4 && continues(p[1]) && continues(p[2]) && continues(p[3]))
    return {class_of((lead & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu)), 4};
  return {0, 1};
}

}  // namespace seedbed::tokenizer

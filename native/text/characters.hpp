// A text as characters, words and lines: what all measures of quality read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace seedbed::text {

struct Range {
  std::uint32_t from, to;
  std::uint32_t size() const { return to - from; }
};

struct Word {
  std::uint32_t from, to;
  bool letter;  // holds one
  bool symbol;  // holds nothing but punctuation and controls
  std::uint64_t hash;
  std::uint32_t size() const { return to - from; }
};

// Mixes two words of 64 bits by a full product, as wyhash does.
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Product = unsigned __int128;
  const Product product = static_cast<Product>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Ends a sentence in some script: Sentence_Terminal of Unicode, and three signs of Khmer that FineWeb's filter adds.
bool ends_sentence(std::uint32_t code);
// What datatrove takes for no part of a word: ASCII punctuation, some of other scripts, controls, ends of sentences.
bool is_symbol(std::uint32_t code);
// Of a script that puts no spaces between words: Southeast Asian ones, Tibetan, Ethiopic, kana, Han, Yi, Vai.
bool is_spaceless(std::uint32_t code);

class Characters {
 public:
  // Takes the place of the last text; bytes that are not UTF-8 are one character each.
  void read(std::string_view text);

  std::size_t size() const { return codes.size(); }
  bool space(std::size_t i) const;
  std::uint64_t hash(Range range) const;
  bool equal(Range range, std::string_view ascii) const;
  Range stripped(Range range) const;

  std::vector<std::uint32_t> codes;
  std::vector<std::uint8_t> classes;
  std::vector<Word> words;        // between white space
  std::vector<Range> lines;       // between LFs, the empty ones too
};

}  // namespace seedbed::text

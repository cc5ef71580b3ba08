// SentencePiece's normaliser: rules that rewrite strings of characters, and what becomes of spaces.
//
// The rules come compiled in a model file: 32 bits that give the size of a double array (the layout of darts-clone),
// the array, and the replacements, each ended by a zero. Whatever such a file holds, nothing is read beyond it.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/double_array.hpp"
#include "tokenizer/normalizer.hpp"

namespace seedbed::tokenizer {

class Charsmap {
 public:
  // Throws std::invalid_argument, saying what is wrong. No bytes at all are no rules.
  explicit Charsmap(std::string_view blob);

  struct Match {
    std::size_t length = 0;  // 0: no rule
    std::string_view replacement;
  };
  // The rule for the longest prefix of a text that has one.
  Match longest(std::string_view text) const;

  // Whether no rule rewrites this ASCII character unless something other than ASCII comes behind it.
  bool keeps(std::uint8_t byte) const { return byte < 0x80 && keeps_[byte]; }

 private:
  static constexpr std::size_t kOutside = ~std::size_t{0};
  std::size_t root() const;
  std::size_t step(std::size_t node, std::uint8_t byte) const;  // kOutside if there is none

  std::vector<std::uint32_t> units_;
  std::string replacements_;
  std::array<bool, 128> keeps_{};
};

struct SentencePieceRules {
  bool dummy_prefix = true;      // a space before the text
  bool removes_extra = true;     // spaces at the ends, and all but one of a row
  bool dummy_at_end = false;     // the space of dummy_prefix stands behind the text instead
};

// What it puts out has spaces, not the character for them.
class SentencePieceNormalizer final : public Normalizer {
 public:
  // `kept`: strings that no rule touches (user-defined symbols).
  SentencePieceNormalizer(Charsmap charsmap, SentencePieceRules rules, const std::vector<std::string>& kept);
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  struct Rewritten {
    std::size_t length;
    std::string_view text;
  };
  Rewritten next(std::string_view text) const;

  Charsmap charsmap_;
  SentencePieceRules rules_;
  DoubleArray kept_;
  std::array<bool, 256> plain_{};  // characters that stay as they are if ASCII comes behind them
};

}  // namespace seedbed::tokenizer

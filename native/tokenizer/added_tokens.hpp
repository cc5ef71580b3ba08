// Tokens that stand in the text as they are (control tokens and other added ones), found before pre-tokenising.
//
// As in the package `tokenizers`: leftmost first, the longest of those that start at one place; tokens that are matched
// in raw text before those that are matched in normalised text.
#pragma once
#include <algorithm>
#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/normalizer.hpp"
#include "tokenizer/pair_map.hpp"

namespace seedbed::tokenizer {

struct AddedToken {
  std::string content;
  std::uint32_t id;
  bool special;      // a control token: only looked for when asked
  bool normalized;   // looked for in a second pass, in the normalised text of what the first left
  bool single_word;  // only where no letter, digit or underscore stands beside it
  bool lstrip;       // with the white space before it
  bool rstrip;       // with the white space behind it
};

// Finds the leftmost, longest of any number of strings: most bytes of a text are passed by at the cost of one look at
// which two bytes a string can begin with. At worst the cost is the text times the longest string.
class TokenTrie {
 public:
  void add(std::string_view content, std::uint32_t value);  // the first of equal strings stays
  bool empty() const { return nodes_.size() == 1; }

  struct Match {
    const char *from, *to;  // null if there is none
    std::uint32_t value;
  };
  Match find(const char* p, const char* end) const;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::uint32_t child(std::uint32_t node, char c) const {
    const std::uint32_t* next = children_.find(pair_of(node, static_cast<std::uint8_t>(c)));
    return next ? *next : kNone;
  }
  bool may_start(const char* p, const char* end) const;

  std::vector<std::uint32_t> nodes_{kNone};  // the value of each, if a string ends there; the root is 0
  PairMap<std::uint32_t> children_;          // of (node, byte)
  std::bitset<256> alone_;                   // bytes that are strings by themselves
  std::bitset<65536> starts_;                // first byte | second byte << 8 of the others
  std::optional<char> one_start_;            // the byte that all begin with
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // The contents of tokens to be found in normalised text are normalised themselves, if there is a normaliser.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  // Both call text(from, to) for ordinary text and token(from, to, id) for added tokens, in the order of the text:
  // the first for tokens that are looked for in text as it is, the second for those looked for in normalised text.
  template <class Text, class Token>
  void split_raw(std::string_view all, bool parse_special, Text&& text, Token&& token) const {
    split_by(raw_, all, parse_special, text, token);
  }
  template <class Text, class Token>
  void split_normalized(std::string_view all, bool parse_special, Text&& text, Token&& token) const {
    split_by(normalized_, all, parse_special, text, token);
  }
  bool any_normalized() const { return !normalized_.empty(); }

 private:
  static bool word_before(const char* p, const char* start);
  static bool word_at(const char* p, const char* end);
  static const char* before_space(const char* p, const char* start);
  static const char* behind_space(const char* p, const char* end);

  // Control tokens that are not to be parsed are text, and so is whatever other token their content holds.
  template <class Text, class Token>
  void split_by(const TokenTrie& trie, std::string_view all, bool parse_special, Text&& text, Token&& token) const {
    const char *start = all.data(), *end = start + all.size(), *done = start;
    if (!trie.empty()) {
      for (const char* p = start; p < end;) {
        auto [from, to, index] = trie.find(p, end);
        if (!from) break;
        p = to;
        const AddedToken& found = tokens_[index];
        if (found.special && !parse_special) continue;
        if (found.single_word && (word_before(from, start) || word_at(to, end))) continue;
        if (found.lstrip) from = std::max(before_space(from, start), done);
        if (found.rstrip) to = behind_space(to, end);
        if (done < from) text(done, from);
        if (from < to) token(from, to, found.id);  // not if the token before took all of it
        done = to;
      }
    }
    if (done < end) text(done, end);
  }

  std::vector<AddedToken> tokens_;
  TokenTrie raw_, normalized_;  // values are places in tokens_
};

}  // namespace seedbed::tokenizer

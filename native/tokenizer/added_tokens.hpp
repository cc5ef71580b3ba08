// Tokens that stand in the text as they are (control tokens and other added ones), found before pre-tokenising.
//
// As in the package `tokenizers`: leftmost first, the longest of those that start at one place; tokens that are matched
// in raw text before those that are matched in normalised text.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

struct AddedToken {
  std::string content;
  std::uint32_t id;
  bool special;     // a control token: only looked for when asked
  bool normalized;  // looked for in a second pass over what the first left
};

class TokenTrie {
 public:
  void add(std::string_view content, std::uint32_t id);
  bool empty() const { return nodes_.size() == 1; }

  struct Match {
    const char *from, *to;  // both at the end of the text if there is none
    std::uint32_t id;
  };
  Match find(const char* p, const char* end) const;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Node {
    std::vector<std::pair<char, std::uint32_t>> children;
    std::uint32_t id = kNone;
  };
  std::uint32_t child(std::uint32_t node, char c) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> starts_{};
  std::optional<char> one_start_;  // what all tokens begin with
};

class AddedTokens {
 public:
  AddedTokens() = default;
  explicit AddedTokens(const std::vector<AddedToken>& tokens);

  // Both call text(from, to) for ordinary text and token(from, to, id) for added tokens, in the order of the text:
  // the first for tokens that are looked for in text as it is, the second for those looked for in normalised text.
  template <class Text, class Token>
  void split_raw(std::string_view all, bool parse_special, Text&& text, Token&& token) const {
    split_by(raw_[parse_special], all.data(), all.data() + all.size(), text, token);
  }
  template <class Text, class Token>
  void split_normalized(std::string_view all, bool parse_special, Text&& text, Token&& token) const {
    split_by(normalized_[parse_special], all.data(), all.data() + all.size(), text, token);
  }
  bool any_normalized(bool parse_special) const { return !normalized_[parse_special].empty(); }

 private:
  template <class Text, class Token>
  static void split_by(const TokenTrie& trie, const char* p, const char* end, Text&& text, Token&& token) {
    if (trie.empty()) {
      if (p < end) text(p, end);
      return;
    }
    while (p < end) {
      const TokenTrie::Match match = trie.find(p, end);
      if (p < match.from) text(p, match.from);
      if (match.from < match.to) token(match.from, match.to, match.id);
      p = match.to;
    }
  }

  std::array<TokenTrie, 2> raw_, normalized_;  // [parse_special]
};

}  // namespace seedbed::tokenizer

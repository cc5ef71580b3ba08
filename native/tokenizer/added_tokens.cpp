#include "tokenizer/added_tokens.hpp"

#include <cstring>

namespace seedbed::tokenizer {

std::uint32_t TokenTrie::child(std::uint32_t node, char c) const {
  for (const auto& [byte, next] : nodes_[node].children)
    if (byte == c) return next;
  return kNone;
}

void TokenTrie::add(std::string_view content, std::uint32_t id) {
  if (content.empty()) return;
  one_start_ = empty() || one_start_ == content[0] ? std::optional(content[0]) : std::nullopt;
  std::uint32_t node = 0;
  for (const char c : content) {
    std::uint32_t next = child(node, c);
    if (next == kNone) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[node].children.emplace_back(c, next);
    }
    node = next;
  }
  nodes_[node].id = id;
  starts_[static_cast<std::uint8_t>(content[0])] = true;
}

TokenTrie::Match TokenTrie::find(const char* p, const char* end) const {
  for (; p < end; ++p) {
    if (one_start_) {  // as control tokens mostly begin with the same '<'
      p = static_cast<const char*>(std::memchr(p, *one_start_, static_cast<std::size_t>(end - p)));
      if (!p) break;
    } else if (!starts_[static_cast<std::uint8_t>(*p)]) {
      continue;
    }
    Match longest{end, end, kNone};
    std::uint32_t node = 0;
    for (const char* q = p; q < end && (node = child(node, *q)) != kNone;) {
      ++q;
      if (nodes_[node].id != kNone) longest = {p, q, nodes_[node].id};
    }
    if (longest.id != kNone) return longest;
  }
  return {end, end, kNone};
}

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens)
    for (const bool parse_special : {false, true})
      if (parse_special || !token.special)
        (token.normalized ? normalized_ : raw_)[parse_special].add(token.content, token.id);
}

}  // namespace seedbed::tokenizer

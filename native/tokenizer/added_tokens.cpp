#include "tokenizer/added_tokens.hpp"

#include <cstring>

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

std::uint32_t two_bytes(const char* p) {
  return static_cast<std::uint8_t>(p[0]) | static_cast<std::uint32_t>(static_cast<std::uint8_t>(p[1])) << 8;
}

Character character_at(const char* p, const char* end) {
  return read_character(reinterpret_cast<const std::uint8_t*>(p), reinterpret_cast<const std::uint8_t*>(end));
}

// The first byte of the character that ends at p (start < p).
const char* one_back(const char* p, const char* start) {
  const char* first = p - 1;
  while (first > start && p - first < 4 && continues(static_cast<std::uint8_t>(*first))) --first;
  return first + character_at(first, p).length == p ? first : p - 1;  // a byte that is not UTF-8 stands alone
}

}  // namespace

void TokenTrie::add(std::string_view content, std::uint32_t value) {
  if (content.empty()) return;
  one_start_ = empty() || one_start_ == content[0] ? std::optional(content[0]) : std::nullopt;
  if (content.size() == 1) {
    alone_.set(static_cast<std::uint8_t>(content[0]));
  } else {
    starts_.set(two_bytes(content.data()));
  }
  std::uint32_t node = 0;
  for (const char c : content) {
    std::uint32_t next = child(node, c);
    if (next == kNone) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back(kNone);
      children_[pair_of(node, static_cast<std::uint8_t>(c))] = next;
    }
    node = next;
  }
  if (nodes_[node] == kNone) nodes_[node] = value;
}

bool TokenTrie::may_start(const char* p, const char* end) const {
  return alone_[static_cast<std::uint8_t>(*p)] || (p + 1 < end && starts_[two_bytes(p)]);
}

TokenTrie::Match TokenTrie::find(const char* p, const char* end) const {
  for (; p < end; ++p) {
    if (one_start_) {  // as control tokens mostly begin with the same '<'
      p = static_cast<const char*>(std::memchr(p, *one_start_, static_cast<std::size_t>(end - p)));
      if (!p) break;
    }
    if (!may_start(p, end)) continue;
    Match longest{nullptr, nullptr, kNone};
    std::uint32_t node = 0;
    for (const char* q = p; q < end && (node = child(node, *q)) != kNone;) {
      ++q;
      if (nodes_[node] != kNone) longest = {p, q, nodes_[node]};
    }
    if (longest.from) return longest;
  }
  return {nullptr, nullptr, kNone};
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer) : tokens_(std::move(tokens)) {
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    std::string content = token.content;
    if (token.normalized && normalizer) {
      content.clear();
      normalizer->normalize(token.content, content, nullptr);
    }
    (token.normalized ? normalized_ : raw_).add(content, i);
  }
}

bool AddedTokens::word_before(const char* p, const char* start) {
  return p > start && character_at(one_back(p, start), p).classes & kWord;
}

bool AddedTokens::word_at(const char* p, const char* end) { return p < end && character_at(p, end).classes & kWord; }

const char* AddedTokens::before_space(const char* p, const char* start) {
  while (p > start) {
    const char* first = one_back(p, start);
    if (!(character_at(first, p).classes & kSpace)) break;
    p = first;
  }
  return p;
}

const char* AddedTokens::behind_space(const char* p, const char* end) {
  while (p < end) {
    const Character c = character_at(p, end);
    if (!(c.classes & kSpace)) break;
    p += c.length;
  }
  return p;
}

}  // namespace seedbed::tokenizer

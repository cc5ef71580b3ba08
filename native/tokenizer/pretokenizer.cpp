#include "tokenizer/pretokenizer.hpp"

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

using Byte = const std::uint8_t;

constexpr std::uint8_t kNotSymbol = kLetter | kNumber | kSpace;  // [^\s\p{L}\p{N}] is what has none of these

// Three bytes that are one of the characters U+5000 to U+8FFF and U+B000 to U+CFFF: ideographs and Hangul, all \p{Lo}.
inline bool is_common_letter(Byte* p) {
  const std::uint8_t lead = p[0];
  return ((lead >= 0xE5 && lead <= 0xE8) || lead == 0xEB || lead == 0xEC) && continues(p[1]) && continues(p[2]);
}

// Past the longest run of characters that have one of `classes`.
inline Byte* skip(Byte* p, Byte* end, std::uint8_t classes) {
  while (p < end) {
    if (classes & kOtherLetter)
      while (end - p >= 3 && is_common_letter(p)) p += 3;
    if (p == end) break;
    const Character c = read_character(p, end);
    if (!(c.classes & classes)) break;
    p += c.length;
  }
  return p;
}

inline Byte* skip_symbols(Byte* p, Byte* end) {  // [^\s\p{L}\p{N}]*
  while (p < end) {
    const Character c = read_character(p, end);
    if (c.classes & kNotSymbol) break;
    p += c.length;
  }
  return p;
}

inline Byte* skip_digits(Byte* p, Byte* end, int most) {  // \p{N}{1,most}, p being at the first
  for (int i = 0; i < most && p < end; ++i) {
    const Character c = read_character(p, end);
    if (!(c.classes & kNumber)) break;
    p += c.length;
  }
  return p;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d) or, with any_case false, its lower-case half. p is at the apostrophe; null if none.
// Case-insensitively s is also U+017F, the long s.
inline Byte* contraction(Byte* p, Byte* end, bool any_case) {
  const auto left = end - p;
  if (left < 2) return nullptr;
  const auto lower = [any_case](std::uint8_t c) -> std::uint8_t {
    return any_case && c >= 'A' && c <= 'Z' ? c + 32 : c;
  };
  const std::uint8_t first = lower(p[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if (left < 3) return nullptr;
  const std::uint8_t second = lower(p[2]);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return p + 3;
  if (any_case && p[1] == 0xC5 && p[2] == 0xBF) return p + 3;
  return nullptr;
}

enum class Tail { None, Newlines, WholeEnd };

// The alternatives for white space, p being at the first of a run:
//   None       \s+(?!\S)|\s+
//   Newlines   \s*[\r\n]+|\s+(?!\S)|\s+
//   WholeEnd   \s++$|\s*[\r\n]|\s+(?!\S)|\s
template <Tail tail>
Byte* cut_space(Byte* p, Byte* end) {
  Byte *q = p, *last = p, *after_newline = nullptr;
  while (q < end) {
    const Character c = read_character(q, end);
    if (!(c.classes & kSpace)) break;
    last = q;
    q += c.length;
    if (c.classes & kNewline) after_newline = q;
  }
  if (tail == Tail::WholeEnd && q == end) return q;
  if (tail != Tail::None && after_newline) return after_newline;
  return q == end || last == p ? q : last;  // the last space of a run goes with the word behind it
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
Byte* cut_gpt2(Byte* p, Byte* end) {
  if (*p == '\'')
    if (Byte* after = contraction(p, end, false)) return after;
  Byte* q = p + (*p == ' ');
  if (q == end) return end;
  const Character c = read_character(q, end);
  if (c.classes & kLetter) return skip(q + c.length, end, kLetter);
  if (c.classes & kNumber) return skip(q + c.length, end, kNumber);
  if (c.classes & kSpace) return cut_space<Tail::None>(p, end);
  return skip_symbols(q + c.length, end);
}

// llama3:  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// qwen2:   the same with \p{N}
// cl100k:  the same, but white space at the very end of the text is one piece: \s++$|\s*[\r\n]|\s+(?!\S)|\s
template <int kDigits, Tail tail>
Byte* cut_llama3(Byte* p, Byte* end) {
  const Character c = read_character(p, end);
  Byte* q = p + c.length;
  if (c.classes & kLetter) return skip(q, end, kLetter);
  if (*p == '\'')
    if (Byte* after = contraction(p, end, true)) return after;
  if (c.classes & kNumber) return skip_digits(q, end, kDigits - 1);
  const Character next = q < end ? read_character(q, end) : Character{kSpace, 0};
  if ((next.classes & kLetter) && !(c.classes & kNewline)) return skip(q + next.length, end, kLetter);
  if (!(c.classes & kSpace) || (*p == ' ' && !(next.classes & kNotSymbol)))
    return skip(skip_symbols(q, end), end, kNewline);
  return cut_space<tail>(p, end);
}

// The two word alternatives of o200k without what stands before and behind them:
//   [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+   (needs_lower)
//   [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
// Characters of Lm, Lo and M belong to both brackets, so where no \p{Ll} follows the first run, the expression gives
// back as far as the last such character of the run and ends behind it. Null if nothing matches.
Byte* cased_word(Byte* p, Byte* end, bool needs_lower) {
  constexpr std::uint8_t kBoth = kOtherLetter | kMark;
  Byte *q = p, *behind_both = nullptr;
  while (q < end) {
    const Character c = read_character(q, end);
    if (!(c.classes & (kUpper | kBoth))) break;
    q += c.length;
    if (c.classes & kBoth) behind_both = q;
  }
  if (q < end && (read_character(q, end).classes & kLower)) return skip(q, end, kLower | kBoth);
  if (needs_lower) return behind_both;
  return q > p ? q : nullptr;
}

Byte* with_contraction(Byte* p, Byte* end) {
  if (p < end && *p == '\'')
    if (Byte* after = contraction(p, end, true)) return after;
  return p;
}

// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
// |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
// |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
Byte* cut_o200k(Byte* p, Byte* end) {
  const Character c = read_character(p, end);
  Byte* q = p + c.length;
  if (c.classes & kNumber) return skip_digits(q, end, 2);
  const bool may_lead = !(c.classes & (kNewline | kLetter));
  for (const bool needs_lower : {true, false}) {
    if (may_lead)
      if (Byte* after = cased_word(q, end, needs_lower)) return with_contraction(after, end);
    if (c.classes & (kLetter | kMark))
      if (Byte* after = cased_word(p, end, needs_lower)) return with_contraction(after, end);
  }
  const bool symbol_follows = q < end && !(read_character(q, end).classes & kNotSymbol);
  if (!(c.classes & kSpace) || (*p == ' ' && symbol_follows)) {
    q = skip_symbols(q, end);
    while (q < end && (*q == '\r' || *q == '\n' || *q == '/')) ++q;
    return q;
  }
  return cut_space<Tail::Newlines>(p, end);
}

}  // namespace

std::optional<Pattern> pattern_named(std::string_view name) {
  if (name == "gpt2") return Pattern::Gpt2;
  if (name == "cl100k") return Pattern::Cl100k;
  if (name == "llama3") return Pattern::Llama3;
  if (name == "o200k") return Pattern::O200k;
  if (name == "qwen2") return Pattern::Qwen2;
  return std::nullopt;
}

Cut cut_of(Pattern pattern) {
  switch (pattern) {
    case Pattern::Gpt2: return cut_gpt2;
    case Pattern::Cl100k: return cut_llama3<3, Tail::WholeEnd>;
    case Pattern::Llama3: return cut_llama3<3, Tail::Newlines>;
    case Pattern::O200k: return cut_o200k;
    case Pattern::Qwen2: return cut_llama3<1, Tail::Newlines>;
  }
  return cut_gpt2;
}

}  // namespace seedbed::tokenizer

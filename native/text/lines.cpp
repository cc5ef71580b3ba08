#include "text/lines.hpp"

#include <algorithm>
#include <array>

#include "tokenizer/unicode.hpp"
#include "tokenizer/unicode_forms.hpp"

namespace seedbed::text {
namespace {

constexpr std::size_t kLongestWord = 1000, kLeastWords = 3;
constexpr std::string_view kPolicies[] = {"terms of use",   "privacy policy", "cookie policy",
                                          "uses cookies", "use of cookies", "use cookies"};
constexpr std::string_view kCounted[] = {"likes",     "shares",  "comments",  "retweets",  "reposts", "quotes",
                                         "bookmarks", "upvotes", "downvotes", "downloads", "views",   "followers"};
constexpr std::size_t kFewWords = 10;  // lines that DCLM takes a phrase from have no more

bool holds(std::string_view text, std::string_view phrase) { return text.find(phrase) != text.npos; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes [12], [], [edit] and [citation needed] out of a line, given with its ASCII form.
void remove_citations(std::u32string& line, std::string& ascii) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < ascii.size();) {
    std::size_t end = 0;
    if (ascii[i] == '[') {
      const std::string_view rest = std::string_view(ascii).substr(i);
      std::size_t digits = 1;
      while (digits < rest.size() && is_digit(rest[digits])) ++digits;
      if (digits < rest.size() && rest[digits] == ']') end = digits + 1;
      for (const std::string_view mark : {std::string_view("[edit]"), std::string_view("[citation needed]")})
        if (rest.substr(0, mark.size()) == mark) end = mark.size();
    }
    if (end) {
      i += end;
    } else {
      line[kept] = line[i];
      ascii[kept++] = ascii[i++];
    }
  }
  line.resize(kept);
  ascii.resize(kept);
}

// Runs of '.', '!' and '?' with the quotes and brackets after them, followed by white space or the end; what is left
// after the last is a sentence, too.
double count_sentences(std::string_view line) {
  double found = 0;
  bool open = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    open |= line[i] != ' ' && line[i] != '\t';
    if (line[i] != '.' && line[i] != '!' && line[i] != '?') continue;
    while (i + 1 < line.size() && std::string_view(".!?\"')]").find(line[i + 1]) != std::string_view::npos) ++i;
    if (i + 1 == line.size() || line[i + 1] == ' ' || line[i + 1] == '\t') {
      ++found;
      open = false;
    }
  }
  return found + open;
}

// "3 likes", "1,204 Views", "12k followers", whatever punctuation stands around.
bool is_counter(std::string_view line) {
  const auto word = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '_' || c == '\x01'; };
  while (!line.empty() && !word(line.front())) line.remove_prefix(1);
  while (!line.empty() && !word(line.back())) line.remove_suffix(1);
  if (line.empty() || !is_digit(line.front())) return false;
  std::size_t i = 0;
  while (i < line.size() && (is_digit(line[i]) || line[i] == ',' || line[i] == '.')) ++i;
  if (i < line.size() && (line[i] == 'k' || line[i] == 'm' || line[i] == 'b')) ++i;
  const std::size_t spaces = i;
  while (i < line.size() && (line[i] == ' ' || line[i] == '\t')) ++i;
  return i > spaces && std::find(std::begin(kCounted), std::end(kCounted), line.substr(i)) != std::end(kCounted);
}

void append(std::string& out, const std::u32string& line) {
  for (const char32_t code : line) tokenizer::append_code_point(code, out);
}

void strip(std::string& text) {
  const std::size_t first = text.find_first_not_of("\n\t ");
  text.erase(text.find_last_not_of("\n\t ") + 1);
  text.erase(0, std::min(first, text.size()));
}

}  // namespace

Cleaned LineCleaner::clean(std::string_view text, LineStyle style) {
  text_.read(text);
  Cleaned out;
  out.text.reserve(text.size());
  for (const Range& line : text_.lines) {
    if (style == LineStyle::Dclm) {
      clean_dclm(line, out);
    } else {
      clean_c4(text_.stripped(line), style == LineStyle::C4, out);
    }
  }
  strip(out.text);
  const auto count = [](const Characters& one) {
    return static_cast<double>(std::count_if(one.words.begin(), one.words.end(), [](const Word& w) { return !w.symbol; }));
  };
  if (const double before = count(text_); before > 0) {
    Characters after;
    after.read(out.text);
    out.removed_word_share = (before - count(after)) / before;
  }
  return out;
}

std::size_t LineCleaner::words(Range range, std::size_t* longest) const {
  std::size_t found = 0, length = 0;
  for (std::uint32_t i = range.from; i < range.to; ++i) {
    length = text_.space(i) ? 0 : length + 1;
    found += length == 1;
    *longest = std::max(*longest, length);
  }
  return found;
}

void LineCleaner::clean_c4(Range range, bool terminal, Cleaned& out) {
  ++out.dropped_lines;
  std::size_t longest = 0;
  const std::size_t count = words(range, &longest);
  if (longest > kLongestWord || !count) return;
  line_.assign(text_.codes.begin() + range.from, text_.codes.begin() + range.to);
  lower_.clear();
  for (const char32_t code : line_) lower_ += code < 0x80 ? static_cast<char>(code) : '\x01';
  remove_citations(line_, lower_);
  if (terminal) {
    const bool ends = !lower_.empty() && std::string_view(".?!\"'").find(lower_.back()) != std::string_view::npos;
    if (!ends || std::string_view(lower_).ends_with("...")) return;
  }
  if (count < kLeastWords) return;
  for (char& c : lower_) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  if (holds(lower_, "lorem ipsum")) {
    ++out.lorem_ipsum;
    return;
  }
  if (holds(lower_, "javascript")) return;
  if (holds(lower_, "{")) {
    ++out.curly_brackets;
    return;
  }
  if (std::any_of(std::begin(kPolicies), std::end(kPolicies), [&](std::string_view p) { return holds(lower_, p); }))
    return;
  out.sentences += count_sentences(lower_);
  --out.dropped_lines;
  if (!out.text.empty()) out.text += '\n';
  append(out.text, line_);
}

void LineCleaner::clean_dclm(Range range, Cleaned& out) {
  std::size_t upper = 0, digits = 0, longest = 0;
  for (std::uint32_t i = range.from; i < range.to; ++i) {
    upper += (text_.classes[i] & tokenizer::kUpper) != 0;
    digits += (text_.classes[i] & tokenizer::kNumber) != 0;
  }
  const std::size_t count = words(range, &longest);
  bool dropped = range.size() && (2 * upper > range.size() || digits == range.size() || count < 2);
  line_.assign(text_.codes.begin() + range.from, text_.codes.begin() + range.to);
  lower_.clear();
  for (const char32_t code : line_)
    lower_ += code >= 0x80 ? '\x01' : code >= 'A' && code <= 'Z' ? static_cast<char>(code | 0x20) : static_cast<char>(code);
  dropped = dropped || is_counter(lower_);
  if (dropped) {
    ++out.dropped_lines;
    return;
  }
  if (count <= kFewWords) {
    for (std::size_t at; (at = line_.find(U"items in cart")) != line_.npos;) line_.erase(at, 13);
    if (line_.ends_with(U"Read more...")) line_.resize(line_.size() - 12);
    if (line_.starts_with(U"Sign-in")) line_.erase(0, 7);
  }
  append(out.text, line_);
  out.text += '\n';
}

}  // namespace seedbed::text

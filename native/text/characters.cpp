#include "text/characters.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <stdexcept>

#include "tokenizer/unicode.hpp"
#include "tokenizer/unicode_forms.hpp"

namespace seedbed::text {
namespace {

constexpr Range kTerminals[] = {
    {0x21, 0x21}, {0x2E, 0x2E}, {0x3F, 0x3F}, {0x589, 0x589}, {0x61D, 0x61F}, {0x6D4, 0x6D4}, {0x700, 0x702},
    {0x7F9, 0x7F9}, {0x837, 0x837}, {0x839, 0x839}, {0x83D, 0x83E}, {0x964, 0x965}, {0x104A, 0x104B},
    {0x1362, 0x1362}, {0x1367, 0x1368}, {0x166E, 0x166E}, {0x1735, 0x1736}, {0x17D4, 0x17D6}, {0x17D9, 0x17DA},
    {0x1803, 0x1803}, {0x1809, 0x1809}, {0x1944, 0x1945}, {0x1AA8, 0x1AAB}, {0x1B4E, 0x1B4F}, {0x1B5A, 0x1B5B},
    {0x1B5E, 0x1B5F}, {0x1B7D, 0x1B7F}, {0x1C3B, 0x1C3C}, {0x1C7E, 0x1C7F}, {0x2024, 0x2024}, {0x203C, 0x203D},
    {0x2047, 0x2049}, {0x2CF9, 0x2CFB}, {0x2E2E, 0x2E2E}, {0x2E3C, 0x2E3C}, {0x2E53, 0x2E54}, {0x2E60, 0x2E61},
    {0x3002, 0x3002}, {0xA4FF, 0xA4FF}, {0xA60E, 0xA60F}, {0xA6F3, 0xA6F3}, {0xA6F7, 0xA6F7}, {0xA876, 0xA877},
    {0xA8CE, 0xA8CF}, {0xA92F, 0xA92F}, {0xA9C8, 0xA9C9}, {0xAA5D, 0xAA5F}, {0xAAF0, 0xAAF1}, {0xABEB, 0xABEB},
    {0xFE12, 0xFE12}, {0xFE15, 0xFE16}, {0xFE52, 0xFE52}, {0xFE56, 0xFE57}, {0xFF01, 0xFF01}, {0xFF0E, 0xFF0E},
    {0xFF1F, 0xFF1F}, {0xFF61, 0xFF61}, {0x10A56, 0x10A57}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89},
    {0x11047, 0x11048}, {0x110BE, 0x110C1}, {0x11141, 0x11143}, {0x111C5, 0x111C6}, {0x111CD, 0x111CD},
    {0x111DE, 0x111DF}, {0x11238, 0x11239}, {0x1123B, 0x1123C}, {0x112A9, 0x112A9}, {0x113D4, 0x113D5},
    {0x1144B, 0x1144C}, {0x115C2, 0x115C3}, {0x115C9, 0x115D7}, {0x11641, 0x11642}, {0x1173C, 0x1173E},
    {0x11944, 0x11944}, {0x11946, 0x11946}, {0x11A42, 0x11A43}, {0x11A9B, 0x11A9C}, {0x11C41, 0x11C42},
    {0x11EF7, 0x11EF8}, {0x11F43, 0x11F44}, {0x16A6E, 0x16A6F}, {0x16AF5, 0x16AF5}, {0x16B37, 0x16B38},
    {0x16B44, 0x16B44}, {0x16D6E, 0x16D6F}, {0x16E98, 0x16E98}, {0x1BC9F, 0x1BC9F}, {0x1DA88, 0x1DA88},
};
constexpr Range kSymbols[] = {
    {0x80, 0x9F}, {0xAB, 0xAB}, {0xB4, 0xB4}, {0xBB, 0xBB}, {0x2013, 0x2014}, {0x2019, 0x2019}, {0x201C, 0x201E},
    {0x2026, 0x2026}, {0x2236, 0x2236}, {0x2501, 0x2501}, {0x25BA, 0x25BA}, {0x3001, 0x3001}, {0x3008, 0x300D},
    {0x3010, 0x3011}, {0xFF05, 0xFF05}, {0xFF08, 0xFF09}, {0xFF0C, 0xFF0C}, {0xFF11, 0xFF11}, {0xFF1A, 0xFF1B},
    {0xFF5E, 0xFF5E},
};
constexpr Range kSpaceless[] = {
    {0x0E00, 0x109F}, {0x1200, 0x139F}, {0x1780, 0x17FF}, {0x3040, 0x30FF},
    {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xA000, 0xA63F}, {0x20000, 0x3FFFF},
};

template <std::size_t N>
bool within(const Range (&ranges)[N], std::uint32_t code) {
  const auto* next = std::upper_bound(std::begin(ranges), std::end(ranges), code,
                                      [](std::uint32_t value, const Range& range) { return value < range.from; });
  return next != std::begin(ranges) && code <= std::prev(next)->to;
}

constexpr bool ascii_symbol(std::uint32_t c) {
  return c < 0x20 ? c != '\n' && c != '\t' : c > 0x20 && !((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) && c != 0x7F;
}

}  // namespace

bool ends_sentence(std::uint32_t code) {
  return code < 0x80 ? code == '.' || code == '!' || code == '?' : within(kTerminals, code);
}

bool is_symbol(std::uint32_t code) {
  return code < 0x80 ? ascii_symbol(code) : within(kSymbols, code) || within(kTerminals, code);
}

bool is_spaceless(std::uint32_t code) { return code >= 0x0E00 && within(kSpaceless, code); }

void Characters::read(std::string_view text) {
  if (text.size() >= std::size_t{1} << 31) throw std::length_error("a text of 2 GiB or more");
  codes.clear();
  classes.clear();
  words.clear();
  lines.clear();
  codes.reserve(text.size());
  classes.reserve(text.size());
  const char *p = text.data(), *const end = p + text.size();
  std::uint32_t line = 0;
  bool in_word = false;
  while (p < end) {
    const tokenizer::CodePoint code = tokenizer::read_code_point(p, end);
    p += code.length;
    const auto at = static_cast<std::uint32_t>(codes.size());
    const std::uint8_t kind = code.value >= tokenizer::CodePoint::kBytes ? 0 : tokenizer::class_of(code.value);
    codes.push_back(code.value);
    classes.push_back(kind);
    if (kind & tokenizer::kSpace) {
      if (in_word) words.back().to = at;
      in_word = false;
      if (code.value == '\n') {
        lines.push_back({line, at});
        line = at + 1;
      }
      continue;
    }
    if (!in_word) words.push_back({at, at, false, true, 0});
    in_word = true;
    Word& word = words.back();
    word.letter |= (kind & tokenizer::kLetter) != 0;
    word.symbol = word.symbol && is_symbol(code.value);
    word.hash = mix(word.hash, code.value + 1);
  }
  const auto size = static_cast<std::uint32_t>(codes.size());
  if (in_word) words.back().to = size;
  lines.push_back({line, size});
}

bool Characters::space(std::size_t i) const { return (classes[i] & tokenizer::kSpace) != 0; }

std::uint64_t Characters::hash(Range range) const {
  std::uint64_t value = range.size();
  std::size_t i = range.from;
  for (; i + 2 <= range.to; i += 2) value = mix(value, std::uint64_t{codes[i]} << 32 | codes[i + 1]);
  if (i < range.to) value = mix(value, codes[i]);
  return value;
}

bool Characters::equal(Range range, std::string_view ascii) const {
  return range.size() == ascii.size() &&
         std::equal(ascii.begin(), ascii.end(), codes.begin() + range.from,
                    [](char a, std::uint32_t b) { return static_cast<std::uint8_t>(a) == b; });
}

Range Characters::stripped(Range range) const {
  while (range.from < range.to && space(range.from)) ++range.from;
  while (range.to > range.from && space(range.to - 1)) --range.to;
  return range;
}

}  // namespace seedbed::text

#include "tokenizer/unicode_forms.hpp"

#include <algorithm>
#include <utility>

namespace seedbed::tokenizer {
namespace {

using unicode_forms::Mapping;

// Syllables of Hangul are computed (The Unicode Standard, section 3.12).
constexpr std::uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr std::uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr std::uint32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

std::span<const std::uint32_t> mapped(std::span<const Mapping> mappings, std::uint32_t code) {
  const auto found = std::lower_bound(mappings.begin(), mappings.end(), code,
                                      [](const Mapping& mapping, std::uint32_t wanted) { return mapping.code < wanted; });
  if (found == mappings.end() || found->code != code) return {};
  return {unicode_forms::pool + found->start, found->length};
}

}  // namespace

void append_code_point(std::uint32_t code, std::string& out) {
  const auto low = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += {static_cast<char>(0xC0 | code >> 6), low(0)};
  } else if (code < 0x10000) {
    out += {static_cast<char>(0xE0 | code >> 12), low(6), low(0)};
  } else if (code < CodePoint::kBytes) {
    out += {static_cast<char>(0xF0 | code >> 18), low(12), low(6), low(0)};
  } else {
    out += static_cast<char>(code - CodePoint::kBytes);
  }
}

std::size_t decompose(std::uint32_t code, bool compatible, std::uint32_t* room) {
  if (const std::uint32_t syllable = code - kSyllables; syllable < kSyllableCount) {
    room[0] = kLeads + syllable / (kVowelCount * kTailCount);
    room[1] = kVowels + syllable / kTailCount % kVowelCount;
    room[2] = kTails + syllable % kTailCount;
    return room[2] == kTails ? 2 : 3;
  }
  std::span<const std::uint32_t> parts;
  if (compatible) parts = mapped(unicode_forms::compatible, code);
  if (parts.empty()) parts = mapped(unicode_forms::canonical, code);
  if (parts.empty()) parts = {&code, 1};
  std::copy(parts.begin(), parts.end(), room);
  return parts.size();
}

std::uint32_t compose(std::uint32_t first, std::uint32_t second) {
  if (first - kLeads < kLeadCount && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTailCount == 0 && second - kTails - 1 < kTailCount - 1)
    return first + (second - kTails);
  const auto key = std::pair(first, second);
  const auto found = std::lower_bound(
      std::begin(unicode_forms::compositions), std::end(unicode_forms::compositions), key,
      [](const unicode_forms::Composition& one, const auto& wanted) { return std::pair(one.first, one.second) < wanted; });
  if (found == std::end(unicode_forms::compositions) || std::pair(found->first, found->second) != key) return 0;
  return found->composed;
}

std::span<const std::uint32_t> lower_case(std::uint32_t code) { return mapped(unicode_forms::lower, code); }

}  // namespace seedbed::tokenizer

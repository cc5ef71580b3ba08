#include "tokenizer/charsmap.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

// A unit of the array: the byte that leads to it, where its children lie from it, and whether it ends a rule. The
// value of a rule is a unit of its own, where the children would lie.
std::size_t children_of(std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & 0x200) >> 6); }
bool led_by(std::uint32_t unit, std::uint8_t byte) { return (unit & 0x800000FF) == byte; }
std::size_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFF; }

constexpr std::string_view kSpaceMark = "\u2581";
constexpr std::string_view kReplacementCharacter = "\uFFFD";

}  // namespace

Charsmap::Charsmap(std::string_view blob) {
  keeps_.fill(true);
  if (blob.empty()) return;
  std::uint32_t size = 0;
  if (blob.size() < sizeof size) throw std::invalid_argument("ends within its size");
  for (int i = 3; i >= 0; --i) size = size << 8 | static_cast<std::uint8_t>(blob[static_cast<std::size_t>(i)]);
  if (size > blob.size() - sizeof size) throw std::invalid_argument("claims a table of " + std::to_string(size) + " bytes");
  if (size == 0 || size % 4 != 0) throw std::invalid_argument("has a table that is no array of 32-bit numbers");
  units_.resize(size / 4);
  for (std::size_t i = 0; i < size; ++i)
    units_[i / 4] |= std::uint32_t{static_cast<std::uint8_t>(blob[sizeof size + i])} << 8 * (i % 4);
  replacements_ = blob.substr(sizeof size + size);
  replacements_.push_back('\0');  // so that each ends

  std::vector<bool> seen(units_.size());  // a damaged table may lead in circles
  std::vector<std::size_t> open;
  const auto visit = [&](std::size_t node) {
    if (node >= units_.size()) throw std::invalid_argument("leads out of its table");
    if (!seen[node]) open.push_back(node);
    seen[node] = true;
  };
  visit(root());
  while (!open.empty()) {
    const std::size_t node = open.back();
    open.pop_back();
    for (int byte = 1; byte < 256; ++byte) {
      const std::size_t at = node ^ static_cast<std::size_t>(byte);
      if (at >= units_.size() || !led_by(units_[at], static_cast<std::uint8_t>(byte))) continue;
      const std::size_t next = at ^ children_of(units_[at]);
      visit(next);
      if (units_[at] >> 8 & 1 && value_of(units_[next]) >= replacements_.size())
        throw std::invalid_argument("has a rule whose replacement lies outside it");
    }
  }
  for (std::uint8_t byte = 0; byte < 128; ++byte) {
    const char one[] = {static_cast<char>(byte)};
    keeps_[byte] = byte != 0 && longest({one, 1}).length == 0;
    for (std::uint8_t second = 1; keeps_[byte] && second < 128; ++second) {
      const std::size_t node = step(root(), byte);
      if (node != kOutside && step(node, second) != kOutside) keeps_[byte] = false;
    }
  }
}

std::size_t Charsmap::root() const { return children_of(units_[0]); }

std::size_t Charsmap::step(std::size_t node, std::uint8_t byte) const {
  const std::size_t at = node ^ byte;
  if (byte == 0 || at >= units_.size() || !led_by(units_[at], byte)) return kOutside;
  return at ^ children_of(units_[at]);
}

Charsmap::Match Charsmap::longest(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  std::size_t node = root();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    const std::size_t at = node ^ byte;
    node = step(node, byte);
    if (node == kOutside) break;
    if (units_[at] >> 8 & 1) match = {i + 1, replacements_.c_str() + value_of(units_[node])};
  }
  return match;
}

SentencePieceNormalizer::SentencePieceNormalizer(Charsmap charsmap, SentencePieceRules rules,
                                                 const std::vector<std::string>& kept)
    : charsmap_(std::move(charsmap)), rules_(rules), kept_([&] {
        std::vector<std::pair<std::string, std::uint32_t>> entries;
        for (const std::string& text : kept) entries.emplace_back(text, 0);
        return DoubleArray(std::move(entries));
      }()) {
  for (std::size_t byte = 0; byte < 128; ++byte) plain_[byte] = charsmap_.keeps(static_cast<std::uint8_t>(byte));
  for (const std::string& text : kept)
    if (!text.empty()) plain_[static_cast<std::uint8_t>(text[0])] = false;
}

// What stands first in a text, and what becomes of it.
SentencePieceNormalizer::Rewritten SentencePieceNormalizer::next(std::string_view text) const {
  std::size_t kept = 0;
  kept_.prefixes(text.data(), text.data() + text.size(), [&](std::uint32_t length, std::uint32_t) { kept = length; });
  if (kept) return {kept, text.substr(0, kept)};
  const Charsmap::Match match = charsmap_.longest(text);
  if (match.length) return {match.length, match.replacement};
  const auto* p = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::size_t length = read_character(p, p + text.size()).length;
  if (length == 1 && p[0] >= 0x80) return {1, kReplacementCharacter};
  return {length, text.substr(0, length)};
}

void SentencePieceNormalizer::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  std::size_t at = 0;
  if (rules_.removes_extra) {
    while (at < text.size()) {
      const Rewritten first = next(text.substr(at));
      if (first.text != " ") break;
      at += first.length;
    }
  }
  if (at == text.size()) return;
  const std::size_t start = out.size();
  const auto put = [&](std::string_view part, Span origin) {
    out.append(part);
    if (origins) origins->insert(origins->end(), part.size(), origin);
  };
  if (rules_.dummy_prefix && !rules_.dummy_at_end) {
    const auto* p = reinterpret_cast<const std::uint8_t*>(text.data());
    put(" ", {at, at + read_character(p + at, p + text.size()).length});
  }
  bool behind_space = rules_.removes_extra;
  while (at < text.size()) {
    std::size_t to = at;  // a run of what stays as it is
    while (to < text.size() && plain_[static_cast<std::uint8_t>(text[to])] &&
           (to + 1 == text.size() || static_cast<std::uint8_t>(text[to + 1]) < 0x80)) {
      if (text[to] == ' ' && rules_.removes_extra) {
        if (behind_space) break;
        behind_space = true;
      } else {
        behind_space = false;
      }
      ++to;
    }
    if (to > at) {
      out.append(text, at, to - at);
      if (origins)
        for (std::size_t i = at; i < to; ++i) origins->push_back({i, i + 1});
      at = to;
      continue;
    }
    const Rewritten rewritten = next(text.substr(at));
    std::string_view part = rewritten.text;
    while (behind_space && !part.empty() && part[0] == ' ') part.remove_prefix(1);
    if (!part.empty()) {
      put(part, {at, at + rewritten.length});
      behind_space = rules_.removes_extra && part.back() == ' ';
    }
    at += rewritten.length;
  }
  if (rules_.removes_extra) {
    const auto ends_with = [&](std::string_view space) {
      return out.size() - start >= space.size() && out.compare(out.size() - space.size(), space.size(), space) == 0;
    };
    for (;;) {
      const std::size_t space = ends_with(" ") ? 1 : ends_with(kSpaceMark) ? kSpaceMark.size() : 0;
      if (space == 0) break;
      out.resize(out.size() - space);
      if (origins) origins->resize(origins->size() - space);
    }
  }
  if (rules_.dummy_prefix && rules_.dummy_at_end) put(" ", {text.size() - 1, text.size()});
}

}  // namespace seedbed::tokenizer

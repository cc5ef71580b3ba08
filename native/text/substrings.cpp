#include "text/substrings.hpp"

#include <algorithm>
#include <cstdint>

#include "text/suffix_array.hpp"

namespace seedbed::text {
namespace {

// The common prefix of each suffix with the one before it in the order, indexed by position: Karkkainen, Manzini and
// Puglisi 2009, "Permuted longest-common-prefix array".
std::vector<std::int32_t> common_prefixes(std::string_view text, const std::vector<std::int32_t>& order) {
  std::vector<std::int32_t> prefixes(text.size(), -1);  // first the suffix before it
  for (std::size_t k = 1; k < order.size(); ++k) prefixes[static_cast<std::size_t>(order[k])] = order[k - 1];
  std::size_t length = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (prefixes[i] < 0) {
      prefixes[i] = 0;
      length = 0;
      continue;
    }
    const auto before = static_cast<std::size_t>(prefixes[i]);
    while (std::max(i, before) + length < text.size() && text[i + length] == text[before + length]) ++length;
    prefixes[i] = static_cast<std::int32_t>(length);
    length -= length > 0;
  }
  return prefixes;
}

bool continues(char c) { return (static_cast<std::uint8_t>(c) & 0xC0) == 0x80; }

}  // namespace

std::vector<Removal> repeated_substrings(const std::vector<std::string_view>& texts, std::size_t length) {
  std::string all;
  std::vector<std::size_t> ends;
  for (const std::string_view text : texts) {
    all += text;
    ends.push_back(all.size());
    all += '\0';
  }
  const std::vector<std::int32_t> order = suffix_array(all);
  const std::vector<std::int32_t> prefixes = common_prefixes(all, order);
  std::vector<bool> repeats(all.size());  // the stretch of `length` that begins here occurs before
  for (std::size_t from = 0, to; from < order.size(); from = to) {
    to = from + 1;
    std::int32_t first = order[from];
    for (; to < order.size() && static_cast<std::size_t>(prefixes[static_cast<std::size_t>(order[to])]) >= length; ++to)
      first = std::min(first, order[to]);
    for (std::size_t k = from; k < to; ++k)
      if (order[k] != first) repeats[static_cast<std::size_t>(order[k])] = true;
  }
  std::vector<Removal> found;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < texts.size(); begin = ends[i] + 1, ++i) {
    for (std::size_t at = begin; at + length <= ends[i];) {
      if (!repeats[at]) {
        ++at;
        continue;
      }
      std::size_t from = at, to = at + length;
      while (++at + length <= ends[i] && at <= to)
        if (repeats[at]) to = at + length;
      while (from < to && continues(all[from])) ++from;
      while (to > from && to < ends[i] && continues(all[to])) --to;
      if (to > from) found.push_back({i, from - begin, to - begin});
      at = std::max(at, to);
    }
  }
  return found;
}

}  // namespace seedbed::text

// Long substrings that occur more than once, within a text or in several (Lee et al. 2022, "Deduplicating training data
// makes language models better", section 4.1).
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace seedbed::text {

struct Removal {
  std::size_t text, from, to;  // bytes
};

// What to take out so that of all equal stretches of `length` bytes only the first stays, in the order of the texts;
// whole characters only.
std::vector<Removal> repeated_substrings(const std::vector<std::string_view>& texts, std::size_t length);

}  // namespace seedbed::text

// Strings that words have in common: what the training of a unigram model begins with.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace seedbed::tokenizer {

// A stretch of a word whose characters are all pieces, and how often it occurs.
struct Stretch {
  std::string_view text;
  double count;
};

// Substrings of 2 to `longest` characters that occur at least twice and that no longer one has to stand for, with their
// counts; the `most` with the highest (count x characters), in that order, ties by text.
std::vector<std::pair<std::string, double>> frequent_substrings(const std::vector<Stretch>& stretches,
                                                                std::size_t longest, std::size_t most,
                                                                unsigned threads);

}  // namespace seedbed::tokenizer

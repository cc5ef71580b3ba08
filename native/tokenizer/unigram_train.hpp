// Training a unigram language model from counted words: Kudo (2018), section 3.2, as SentencePiece does it.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/word_counts.hpp"

namespace seedbed::tokenizer {

struct UnigramSettings {
  std::size_t size = 32000;              // pieces to end with
  std::size_t seeds = 1000000;           // pieces to begin with, at most
  std::size_t longest = 16;              // characters of a piece
  double character_coverage = 0.9995;    // share of the text whose characters are pieces; the rarest others are unknown
  double shrinking = 0.75;               // share of the pieces that a round keeps
  unsigned rounds_of_em = 2;             // between two prunings
  unsigned threads = 1;
};

struct ScoredPiece {
  std::string text;
  double score;  // natural logarithm of its probability
};

// Pieces by falling score; fewer than asked for if the words do not yield as many. Throws std::invalid_argument if
// `size` has no room for the characters that must be pieces. The result does not depend on `threads`.
std::vector<ScoredPiece> train_unigram(const WordCounts& words, const UnigramSettings& settings);

}  // namespace seedbed::tokenizer

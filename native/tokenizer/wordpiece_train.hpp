// Training of WordPiece's vocabulary, as the package `tokenizers` does it: by merges of characters.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/merge_trainer.hpp"
#include "tokenizer/word_counts.hpp"

namespace seedbed::tokenizer {

struct WordPieceSettings {
  std::size_t vocab_size;
  std::uint64_t min_frequency;
  std::size_t limit_alphabet;        // the most frequent characters are kept; of equally frequent ones the smaller
  std::vector<std::string> specials;
  std::u32string initial_alphabet;   // kept before all others
  std::string prefix;                // of tokens that continue a word
};

// The ids: special tokens, the alphabet by code point, its characters that continue a word by code point, merges.
struct WordPieceVocabulary {
  Vocabulary vocabulary;
  std::size_t alphabet;  // special tokens and characters: what the vocabulary has before the first merge
  std::int64_t clash;    // id of a special token that comes out of ordinary text; -1 if none does
};
WordPieceVocabulary train_wordpiece(const WordCounts& words, const WordPieceSettings& settings);

}  // namespace seedbed::tokenizer

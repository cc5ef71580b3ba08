// Training of byte-pair encoding (Sennrich, Haddow and Birch 2016, section 3.2), on bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/pair_map.hpp"
#include "tokenizer/word_counts.hpp"

namespace seedbed::tokenizer {

struct Merge {
  std::uint32_t left, right, result;
};

struct Vocabulary {
  std::vector<std::string> tokens;  // bytes of each id: special tokens, the 256 bytes, what the merges made
  std::vector<Merge> merges;        // in the order in which they were learnt, which is the order of application
};

// Learns merges until the vocabulary has `vocab_size` tokens or no pair occurs `min_frequency` times.
// `specials` get the first ids and the 256 bytes follow in the order of `byte_order`. Equal to the BpeTrainer of
// the package `tokenizers`: the most frequent pair first; of equally frequent ones, the pair of smaller ids.
Vocabulary train_bpe(const WordCounts& words, std::size_t vocab_size, const std::vector<std::string>& specials,
                     const std::vector<std::uint8_t>& byte_order, std::uint64_t min_frequency);

}  // namespace seedbed::tokenizer

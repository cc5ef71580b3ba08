// Training of byte-pair encoding on bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/merge_trainer.hpp"
#include "tokenizer/word_counts.hpp"

namespace seedbed::tokenizer {

// Learns merges until the vocabulary has `vocab_size` tokens or no pair occurs `min_frequency` times.
// `specials` get the first ids and the 256 bytes follow in the order of `byte_order`. Equal to the BpeTrainer of
// the package `tokenizers`.
Vocabulary train_bpe(const WordCounts& words, std::size_t vocab_size, const std::vector<std::string>& specials,
                     const std::vector<std::uint8_t>& byte_order, std::uint64_t min_frequency);

}  // namespace seedbed::tokenizer

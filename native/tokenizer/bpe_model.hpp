// Applying BPE: the merges of a vocabulary, on the bytes of one pre-token.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/bpe_train.hpp"
#include "tokenizer/pair_map.hpp"

namespace seedbed::tokenizer {

struct MergeRule {
  std::uint32_t rank = 0;  // the lowest goes first
  std::uint32_t result = 0;
};

// Working memory of one thread, reused from word to word.
struct MergeScratch {
  struct Symbol {
    std::uint32_t id, previous, next;
  };
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> heap;  // rank << 32 | position: the smallest is the lowest rank, then the leftmost
};

class BpeModel {
 public:
  // tokens[id] are the bytes of each id. A pre-token that spells one of the ids `whole_words` becomes that id without
  // merges ("ignore_merges"). Throws std::invalid_argument on ids out of range.
  BpeModel(std::vector<std::string> tokens, const std::vector<Merge>& merges, const std::array<std::uint32_t, 256>& bytes,
           const std::vector<std::uint32_t>& whole_words);

  std::size_t size() const { return tokens_.size(); }
  const std::string& token(std::uint32_t id) const { return tokens_[id]; }

  // Writes the ids of a word to `out`, which has room for one a byte; returns how many.
  std::size_t encode(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const;

 private:
  std::uint64_t merge_of(std::uint32_t left, std::uint32_t right) const;
  std::size_t merge_short(std::string_view word, std::uint32_t* out) const;
  std::size_t merge_long(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const;

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, std::uint32_t> whole_words_;  // keys lie in tokens_
  std::array<std::uint32_t, 256> bytes_;
  PairMap<MergeRule> merges_;
  std::vector<std::uint64_t> byte_pairs_;  // of the bytes [left << 8 | right]: rank << 32 | result
};

}  // namespace seedbed::tokenizer

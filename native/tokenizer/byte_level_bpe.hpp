// Byte-level BPE: cut into words by a pattern, and merged from bytes; words that were seen before come from a cache.
#pragma once
#include "tokenizer/algorithm.hpp"
#include "tokenizer/bpe_model.hpp"
#include "tokenizer/cutter.hpp"
#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

class ByteLevelBpe final : public Algorithm {
 public:
  ByteLevelBpe(BpeModel model, Pattern pattern);

  std::unique_ptr<State> new_state() const override;
  void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const override;

 private:
  struct Words;
  BpeModel model_;
  Cutter cutter_;
  WordCache first_words_;  // what every cache starts with: the words that are tokens
};

}  // namespace seedbed::tokenizer

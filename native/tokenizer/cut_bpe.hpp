// Byte-level BPE over the pieces of any cutter. There is no cache: cutting takes longer than merging.
#pragma once
#include "tokenizer/algorithm.hpp"
#include "tokenizer/bpe_model.hpp"
#include "tokenizer/text_cutter.hpp"

namespace seedbed::tokenizer {

class CutBpe final : public Algorithm {
 public:
  CutBpe(BpeModel model, std::shared_ptr<const TextCutter> cutter) : model_(std::move(model)), cutter_(std::move(cutter)) {}

  std::unique_ptr<State> new_state() const override;
  void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const override;

 private:
  BpeModel model_;
  std::shared_ptr<const TextCutter> cutter_;
};

}  // namespace seedbed::tokenizer

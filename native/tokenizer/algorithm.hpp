// What turns a stretch of ordinary text into ids: normaliser, pre-tokeniser and model as one, so that each algorithm
// may cut and cache as suits it. Added tokens, threads and batches are the Encoder's.
#pragma once
#include <memory>
#include <vector>

#include "tokenizer/id_buffer.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/section.hpp"

namespace seedbed::tokenizer {

class Algorithm {
 public:
  virtual ~Algorithm() = default;

  // What a thread keeps from call to call: caches and working memory, bounded between calls.
  struct State {
    virtual ~State() = default;
    virtual void shrink() {}  // gives back what an unusually long word made it grow to
  };
  virtual std::unique_ptr<State> new_state() const = 0;

  // Its normaliser, for the Encoder, which looks for some added tokens in normalised text; null if it has none.
  virtual const Normalizer* normalizer() const { return nullptr; }

  // Appends the ids of a section to `ids` and, unless `spans` is null, which bytes of the section each stands for.
  // Safe to call from several threads, each with a state of its own.
  virtual void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const = 0;
};

}  // namespace seedbed::tokenizer

// What turns a stretch of ordinary text into ids: normaliser, pre-tokeniser and model as one, so that each algorithm
// may cut and cache as suits it. Added tokens, threads and batches are the Encoder's.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "tokenizer/id_buffer.hpp"

namespace seedbed::tokenizer {

// A stretch of text without added tokens.
struct Section {
  std::string_view text;
  const char* readable_end;  // up to here bytes may be read, whatever they hold
};

// The bytes of a section that an id stands for.
struct Span {
  std::size_t from, to;
};

class Algorithm {
 public:
  virtual ~Algorithm() = default;

  // What a thread keeps from call to call: caches and working memory, bounded between calls.
  struct State {
    virtual ~State() = default;
    virtual void shrink() {}  // gives back what an unusually long word made it grow to
  };
  virtual std::unique_ptr<State> new_state() const = 0;

  // Appends the ids of a section to `ids` and, unless `spans` is null, where each stands. Safe to call from several
  // threads, each with a state of its own.
  virtual void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const = 0;
};

}  // namespace seedbed::tokenizer

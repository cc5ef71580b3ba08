// A byte-level BPE tokenizer: added tokens, pre-tokeniser, word cache and merges put together.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.hpp"
#include "tokenizer/bpe_model.hpp"
#include "tokenizer/pretokenizer.hpp"
#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

// Ids under way: a growing array whose new room is not zeroed.
class IdBuffer {
 public:
  std::uint32_t* room(std::size_t more) {  // where the next `more` ids go
    if (size_ + more > capacity_) grow(more);
    return ids_.get() + size_;
  }
  void commit(std::size_t count) { size_ += count; }
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  const std::uint32_t* data() const { return ids_.get(); }

 private:
  void grow(std::size_t more);
  std::unique_ptr<std::uint32_t[]> ids_;
  std::size_t size_ = 0, capacity_ = 0;
};

class Encoder {
 public:
  Encoder(BpeModel model, AddedTokens added, Pattern pattern) : model_(std::move(model)), added_(std::move(added)), cut_(cut_of(pattern)) {}

  const BpeModel& model() const { return model_; }

  struct Batch {
    std::vector<IdBuffer> parts;         // one behind another they are the ids of all texts
    std::vector<std::size_t> lengths;    // of each text
  };
  Batch encode(const std::vector<std::string_view>& texts, unsigned threads, bool parse_special) const;

 private:
  // What a thread needs, kept from call to call so that the cache stays warm.
  struct Workspace {
    WordCache cache;
    MergeScratch scratch;
  };
  class Lease;

  void encode_text(std::string_view text, bool parse_special, Workspace& workspace, IdBuffer& out) const;
  void encode_words(const std::uint8_t* p, const std::uint8_t* end, const std::uint8_t* readable_end, Workspace& workspace,
                    IdBuffer& out) const;
  void encode_new_word(std::string_view word, Workspace& workspace, IdBuffer& out) const;

  BpeModel model_;
  AddedTokens added_;
  Cut cut_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace seedbed::tokenizer

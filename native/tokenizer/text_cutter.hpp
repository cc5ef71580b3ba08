// How a text falls into pieces where no matcher of pretokenizer.hpp knows it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/section.hpp"
#include "tokenizer/word_source.hpp"

namespace seedbed::tokenizer {

struct CutText {
  std::string changed;             // the text with the spaces that were put in; empty if there are none
  std::vector<Span> pieces;        // of it, in its order; what lies between them is dropped
  std::vector<std::size_t> spaces; // where in it those spaces stand, ascending
};

class TextCutter {
 public:
  virtual ~TextCutter() = default;
  // Safe to call from several threads.
  virtual CutText cut(std::string_view text) const = 0;
};

class CutWords final : public WordSource {
 public:
  explicit CutWords(std::shared_ptr<const TextCutter> cutter) : cutter_(std::move(cutter)) {}
  void each(std::string_view text, const Take& take) const override {
    const CutText found = cutter_->cut(text);
    const std::string_view whole = found.spaces.empty() ? text : found.changed;
    for (const Span& piece : found.pieces) take(whole.substr(piece.from, piece.to - piece.from));
  }

 private:
  std::shared_ptr<const TextCutter> cutter_;
};

}  // namespace seedbed::tokenizer

// Encoding as SentencePiece does it: a space is a character like any other, and the pieces of a vocabulary begin with
// it. Text is normalised, cut into words where no piece can cross, and each word is left to a model; words that were
// seen before come from a cache.
//
// Within, a space stands for the character that vocabularies write for it (U+2581): it is shorter.
#pragma once
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/algorithm.hpp"
#include "tokenizer/word_source.hpp"

namespace seedbed::tokenizer {

// How a text without its normaliser becomes words: `tokenizers`' pre-tokeniser Metaspace.
struct Metaspace {
  enum class Prepend { Always, First, Never };
  std::string replacement = "\u2581";
  Prepend prepend = Prepend::Always;
  bool split = true;             // each space begins a word, and words are encoded on their own
  bool whitespace_split = false;  // first cut at white space, which is dropped; only with Always and split
};

// Whether a space stands behind something else, so that the piece reaches over the bounds of words.
inline bool has_inner_space(std::string_view piece) {
  const std::size_t letter = piece.find_first_not_of(' ');
  return letter != std::string_view::npos && piece.find(' ', letter) != std::string_view::npos;
}

// What encodes a word.
class PieceModel {
 public:
  virtual ~PieceModel() = default;
  struct Scratch {
    virtual ~Scratch() = default;
    virtual void shrink() {}
  };
  virtual std::unique_ptr<Scratch> new_scratch() const = 0;

  // No piece holds a space behind something else, so that a text may be cut before every row of spaces.
  virtual bool cuts_at_spaces() const = 0;

  // Whether a word's ids may hang on the score of what stands before it. Scores are sums in which rounding grows with
  // what was summed before, so a tie, or nearly one, may fall otherwise far into a text.
  virtual bool contextual() const { return false; }

  // `score` is what the text before the word has cost, and afterwards with the word; `slack` is how far rounding may
  // move the scores of this word before its ids can change.
  struct Context {
    double score = 0;
    float slack = std::numeric_limits<float>::infinity();
  };
  // Appends the ids of a word and, unless `spans` is null, the bytes of it that each stands for.
  virtual void encode(std::string_view word, Context& context, Scratch& scratch, IdBuffer& ids,
                      std::vector<Span>* spans) const = 0;

  // Only for a contextual model: whether a word whose ids and slack are known has them behind `score` too, which then
  // goes on to what it is with the word.
  virtual bool follows(std::size_t word_size, float slack, std::span<const std::uint32_t> ids, double& score) const {
    (void)word_size, (void)slack, (void)ids, (void)score;
    return true;
  }
};

class PieceEncoder final : public Algorithm {
 public:
  PieceEncoder(std::shared_ptr<const PieceModel> model, std::shared_ptr<const Normalizer> normalizer, Metaspace spaces)
      : model_(std::move(model)), normalizer_(std::move(normalizer)), spaces_(std::move(spaces)) {}

  std::unique_ptr<State> new_state() const override;
  const Normalizer* normalizer() const override { return normalizer_.get(); }
  void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const override;

 private:
  struct Words;
  template <class Take>
  void each_word(std::string_view text, Take&& take) const;
  void encode_words(std::string_view text, Words& words, IdBuffer& ids) const;
  void encode_with_spans(std::string_view text, Words& words, IdBuffer& ids, std::vector<Span>& spans) const;

  std::shared_ptr<const PieceModel> model_;
  std::shared_ptr<const Normalizer> normalizer_;
  Metaspace spaces_;
};

// Appends a text as Metaspace changes it, with spaces for its replacement; `origins` as in Normalizer.
void put_spaces(const Metaspace& spaces, std::string_view text, bool at_start, std::string& out,
                std::vector<Span>* origins);

// The words that training counts: normalised, and each from its space to the next.
class MetaspaceWords final : public WordSource {
 public:
  MetaspaceWords(std::shared_ptr<const Normalizer> normalizer, Metaspace spaces)
      : normalizer_(std::move(normalizer)), spaces_(std::move(spaces)) {}
  void each(std::string_view text, const Take& take) const override;

 private:
  std::shared_ptr<const Normalizer> normalizer_;
  Metaspace spaces_;
};

}  // namespace seedbed::tokenizer

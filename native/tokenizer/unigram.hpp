// Unigram language model: of all ways to cut a word into pieces, the one whose scores sum highest.
//
// Kudo (2018), "Subword Regularization", section 3.2; the best path by Viterbi (1967) over the pieces that a trie finds.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/double_array.hpp"
#include "tokenizer/piece_encoder.hpp"

namespace seedbed::tokenizer {

struct UnigramPieces {
  // Of each id; a piece that text cannot become (control tokens, bytes) is empty. Spaces are spaces.
  std::vector<std::string> pieces;
  std::vector<double> scores;
  std::uint32_t unknown_id;
  double unknown_score;                                      // of a character that is no piece
  std::optional<std::array<std::uint32_t, 256>> byte_ids;    // what unknown characters are written in
  std::string space;                                         // the bytes of a space, should it be unknown
};

// `Real` is what scores are summed in, as ties hang on it: double as in `tokenizers`, float as in SentencePiece.
// `contextual`: sums go on from word to word, and with them the rounding.
template <class Real>
class Unigram final : public PieceModel {
 public:
  // Throws std::invalid_argument on ids out of range and on scores that are not finite.
  Unigram(UnigramPieces pieces, bool contextual);

  std::unique_ptr<Scratch> new_scratch() const override;
  bool cuts_at_spaces() const override { return cuts_at_spaces_; }
  void encode(std::string_view word, Context& context, Scratch& scratch, IdBuffer& ids,
              std::vector<Span>* spans) const override;
  bool contextual() const override { return contextual_; }
  bool follows(std::size_t word_size, float slack, std::span<const std::uint32_t> ids, double& score) const override;

 private:
  struct Best;
  struct Path;
  class Output;
  double rounding(std::size_t word_size, double score) const;
  void extend(std::string_view word, std::size_t at, Path& path) const;
  std::size_t settled(std::size_t at, const Path& path) const;
  float put(std::size_t to, Path& path, Output& output) const;

  UnigramPieces pieces_;
  DoubleArray trie_;
  bool contextual_, cuts_at_spaces_;
  std::size_t longest_ = 4;  // bytes of a piece, or of an unknown character
  double largest_ = 0;       // of the scores' magnitudes
};

extern template class Unigram<float>;
extern template class Unigram<double>;

}  // namespace seedbed::tokenizer

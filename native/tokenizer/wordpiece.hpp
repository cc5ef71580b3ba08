// WordPiece: each word falls, from left to right, into the longest pieces that the vocabulary has (Schuster and Nakajima
// 2012; Devlin et al. 2018). Greedy matching over a trie is linear here, as no word has more than `most_characters`.
//
// Words are looked up as they stand in the text, before they are normalised: most have been seen before.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/algorithm.hpp"
#include "tokenizer/bert_words.hpp"
#include "tokenizer/double_array.hpp"
#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

class WordPiece final : public Algorithm {
 public:
  struct Vocabulary {
    std::vector<std::pair<std::string, std::uint32_t>> tokens;
    std::uint32_t unknown;  // a word that has no pieces becomes this
    std::string prefix;     // of tokens that continue a word
    std::size_t most_characters;  // of a word; a longer one is unknown
  };
  // `normalizer` may be null. Words are cut at white space and, if `punctuation`, around punctuation.
  WordPiece(const Vocabulary& vocabulary, std::shared_ptr<const Normalizer> normalizer, bool punctuation);

  std::unique_ptr<State> new_state() const override;
  const Normalizer* normalizer() const override { return normalizer_.get(); }
  void encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const override;

 private:
  struct Words;
  struct Source;
  void encode_words(std::string_view text, const char* readable_end, const Source& source, IdBuffer& ids) const;
  void encode_new_word(std::string_view word, bool raw, std::string& scratch, IdBuffer& ids,
                       std::vector<Span>* spans) const;
  void encode_endless_word(std::string_view word, IdBuffer& ids) const;
  void encode_pieces(std::string_view word, IdBuffer& ids, std::vector<Span>* spans) const;

  DoubleArray whole_, continuing_;  // tokens that start a word; those that continue one, without the prefix
  std::uint32_t unknown_;
  std::size_t most_characters_;
  std::shared_ptr<const Normalizer> normalizer_;
  const BertNormalizer* bert_;  // the normaliser if it is BERT's, which works word by word
  BertCut cut_, raw_cut_;
};

}  // namespace seedbed::tokenizer

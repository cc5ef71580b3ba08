// BPE from characters, as SentencePiece and its descendants (Llama 2, Mistral, Gemma) have it: of all neighbouring
// symbols that together are a piece, the pair whose piece ranks first becomes one, the leftmost of equals, until none
// is left. What is no piece then is unknown, or becomes its bytes.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/bpe_train.hpp"
#include "tokenizer/double_array.hpp"
#include "tokenizer/pair_map.hpp"
#include "tokenizer/piece_encoder.hpp"

namespace seedbed::tokenizer {

struct CharacterPieces {
  std::vector<std::string> pieces;   // of each id; empty if text cannot become it. Spaces are spaces.
  std::vector<bool> unused, whole;   // only a step to longer pieces; stands as it is and joins nothing
  std::uint32_t unknown_id;
  bool fuses_unknown;                // a row of unknown characters is one id
  std::optional<std::array<std::uint32_t, 256>> byte_ids;  // what unknown characters are written in
  std::string space;                                       // the bytes of a space, should it be unknown
};

struct JoinRule {
  std::uint32_t rank = 0;  // the lowest goes first
  std::uint32_t result = 0;
};

class CharacterBpe final : public PieceModel {
 public:
  // Pairs join to any piece that they spell, the one of the highest score first.
  CharacterBpe(CharacterPieces pieces, const std::vector<double>& scores);
  // Pairs join by a list of merges, the first first. Throws std::invalid_argument on ids out of range.
  CharacterBpe(CharacterPieces pieces, const std::vector<Merge>& merges);

  std::unique_ptr<Scratch> new_scratch() const override;
  bool cuts_at_spaces() const override { return cuts_at_spaces_; }
  void encode(std::string_view word, Context& context, Scratch& scratch, IdBuffer& ids,
              std::vector<Span>* spans) const override;

 private:
  struct Symbols;
  explicit CharacterBpe(CharacterPieces pieces);
  void read(std::string_view word, Symbols& symbols) const;
  void join(Symbols& symbols) const;
  void put(std::string_view word, const Symbols& symbols, IdBuffer& ids, std::vector<Span>* spans) const;

  CharacterPieces pieces_;
  std::vector<std::string> letters_;  // characters that are parts of pieces but none themselves: ids behind the pieces'
  DoubleArray starts_;                // characters and whole pieces
  PairMap<JoinRule> rules_;
  bool cuts_at_spaces_;
};

}  // namespace seedbed::tokenizer

// What Python sees of encoding with spaces in the pieces: Unigram, and BPE as SentencePiece has it.
#include <stdexcept>

#include "tokenizer/bindings.hpp"
#include "tokenizer/character_bpe.hpp"
#include "tokenizer/charsmap.hpp"
#include "tokenizer/piece_encoder.hpp"
#include "tokenizer/unigram.hpp"
#include "tokenizer/unigram_train.hpp"

namespace seedbed::tokenizer {
namespace {

using Scores = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Metaspace::Prepend prepend_named(std::string_view name) {
  if (name == "always") return Metaspace::Prepend::Always;
  if (name == "first") return Metaspace::Prepend::First;
  if (name == "never") return Metaspace::Prepend::Never;
  throw std::invalid_argument("prepend must be always, first or never");
}

std::optional<std::array<std::uint32_t, 256>> byte_ids_of(const Ids& ids) {
  if (ids.shape(0) == 0) return std::nullopt;
  if (ids.shape(0) != 256) throw std::invalid_argument("byte_ids must have 256 entries or none");
  std::array<std::uint32_t, 256> array;
  std::copy_n(ids.data(), 256, array.begin());
  return array;
}

std::shared_ptr<PieceModel> new_unigram(const nb::list& pieces, const Scores& scores, std::uint32_t unknown_id,
                                        double unknown_score, const Ids& byte_ids, const nb::bytes& space,
                                        bool contextual, bool single_precision) {
  UnigramPieces all{copies_of(pieces), {scores.data(), scores.data() + scores.shape(0)}, unknown_id, unknown_score,
                    byte_ids_of(byte_ids), std::string(bytes_view(space))};
  if (single_precision) return std::make_shared<Unigram<float>>(std::move(all), contextual);
  return std::make_shared<Unigram<double>>(std::move(all), contextual);
}

using Flags = nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

CharacterPieces character_pieces(const nb::list& pieces, const Flags& unused, const Flags& whole,
                                 std::uint32_t unknown_id, bool fuses_unknown, const Ids& byte_ids,
                                 const nb::bytes& space) {
  CharacterPieces all{copies_of(pieces),
                      std::vector<bool>(unused.data(), unused.data() + unused.shape(0)),
                      std::vector<bool>(whole.data(), whole.data() + whole.shape(0)),
                      unknown_id,
                      fuses_unknown,
                      byte_ids_of(byte_ids),
                      std::string(bytes_view(space))};
  if (all.unused.size() != all.pieces.size() || all.whole.size() != all.pieces.size())
    throw std::invalid_argument("pieces and flags differ in number");
  return all;
}

std::shared_ptr<PieceModel> new_sentencepiece_bpe(const nb::list& pieces, const Scores& scores, const Flags& unused,
                                                  const Flags& whole, std::uint32_t unknown_id, const Ids& byte_ids,
                                                  const nb::bytes& space) {
  return std::make_shared<CharacterBpe>(character_pieces(pieces, unused, whole, unknown_id, true, byte_ids, space),
                                        std::vector<double>(scores.data(), scores.data() + scores.shape(0)));
}

std::shared_ptr<PieceModel> new_character_bpe(const nb::list& pieces, const Triples& merges, std::uint32_t unknown_id,
                                              bool fuses_unknown, const Ids& byte_ids, const nb::bytes& space) {
  std::vector<Merge> rules(merges.shape(0));
  for (std::size_t i = 0; i < rules.size(); ++i) rules[i] = {merges(i, 0), merges(i, 1), merges(i, 2)};
  const std::vector<bool> none(nb::len(pieces));
  CharacterPieces all{copies_of(pieces), none, none, unknown_id, fuses_unknown, byte_ids_of(byte_ids),
                      std::string(bytes_view(space))};
  return std::make_shared<CharacterBpe>(std::move(all), rules);
}

std::shared_ptr<Algorithm> new_piece_encoder(std::shared_ptr<PieceModel> model,
                                             std::shared_ptr<Normalizer> normalizer, const nb::bytes& replacement,
                                             std::string_view prepend, bool split, bool whitespace_split) {
  Metaspace spaces{std::string(bytes_view(replacement)), prepend_named(prepend), split, whitespace_split};
  if (spaces.replacement.empty()) throw std::invalid_argument("replacement is empty");
  if (whitespace_split && !(split && spaces.prepend == Metaspace::Prepend::Always))
    throw std::invalid_argument("words at white space must each begin with a space and stand alone");
  return std::make_shared<PieceEncoder>(std::move(model), std::move(normalizer), std::move(spaces));
}

nb::tuple train(const WordCounts& words, std::size_t size, std::size_t seeds, std::size_t longest, double coverage,
                double shrinking, unsigned rounds_of_em, unsigned threads) {
  std::vector<ScoredPiece> found;
  {
    nb::gil_scoped_release release;
    found = train_unigram(words, {size, seeds, longest, coverage, shrinking, rounds_of_em, threads});
  }
  nb::list pieces;
  double* score;
  auto scores = new_array(found.size(), &score);
  for (const ScoredPiece& piece : found) {
    pieces.append(nb::bytes(piece.text.data(), piece.text.size()));
    *score++ = piece.score;
  }
  return nb::make_tuple(pieces, scores);
}

std::shared_ptr<Normalizer> new_sentencepiece_normalizer(const nb::bytes& charsmap, bool dummy_prefix,
                                                         bool removes_extra, bool dummy_at_end, const nb::list& kept) {
  return std::make_shared<SentencePieceNormalizer>(
      Charsmap(bytes_view(charsmap)), SentencePieceRules{dummy_prefix, removes_extra, dummy_at_end}, copies_of(kept));
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_pieces(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  nb::class_<PieceModel>(m, "PieceModel", "What cuts a word into pieces.");
  m.def("unigram", &new_unigram, "pieces"_a, "scores"_a, "unknown_id"_a, "unknown_score"_a, "byte_ids"_a, "space"_a,
        "contextual"_a, "single_precision"_a);
  m.def("sentencepiece_bpe", &new_sentencepiece_bpe, "pieces"_a, "scores"_a, "unused"_a, "whole"_a, "unknown_id"_a,
        "byte_ids"_a, "space"_a);
  m.def("character_bpe", &new_character_bpe, "pieces"_a, "merges"_a, "unknown_id"_a, "fuses_unknown"_a, "byte_ids"_a,
        "space"_a);
  m.def("piece_encoder", &new_piece_encoder, "model"_a, "normalizer"_a.none(), "replacement"_a, "prepend"_a, "split"_a,
        "whitespace_split"_a);
  m.def("sentencepiece_normalizer", &new_sentencepiece_normalizer, "charsmap"_a, "dummy_prefix"_a, "removes_extra"_a,
        "dummy_at_end"_a, "kept"_a);
  m.def("metaspace_words",
        [](std::shared_ptr<Normalizer> normalizer, const nb::bytes& replacement,
           bool whitespace_split) -> std::shared_ptr<WordSource> {
          return std::make_shared<MetaspaceWords>(
              std::move(normalizer), Metaspace{std::string(bytes_view(replacement)), Metaspace::Prepend::Always, true, whitespace_split});
        },
        "normalizer"_a.none(), "replacement"_a, "whitespace_split"_a);
  m.def("train_unigram", &train, "words"_a, "size"_a, "seeds"_a, "longest"_a, "character_coverage"_a, "shrinking"_a,
        "rounds_of_em"_a, "threads"_a);
}

// What Python sees of WordPiece.
#include <nanobind/stl/string.h>

#include <stdexcept>

#include "tokenizer/bindings.hpp"
#include "tokenizer/wordpiece.hpp"
#include "tokenizer/wordpiece_train.hpp"

namespace seedbed::tokenizer {
namespace {

std::shared_ptr<Algorithm> new_wordpiece(const nb::list& tokens, const Ids& ids, std::uint32_t unknown,
                                         const nb::bytes& prefix, std::size_t most_characters, bool punctuation,
                                         std::shared_ptr<Normalizer> normalizer) {
  std::vector<std::string> contents = copies_of(tokens);
  if (ids.shape(0) != contents.size()) throw std::invalid_argument("there must be one id for each token");
  WordPiece::Vocabulary vocabulary{{}, unknown, std::string(bytes_view(prefix)), most_characters};
  for (std::size_t i = 0; i < contents.size(); ++i) vocabulary.tokens.emplace_back(std::move(contents[i]), ids(i));
  return std::make_shared<WordPiece>(vocabulary, std::move(normalizer), punctuation);
}

nb::tuple train(const WordCounts& words, std::size_t vocab_size, std::uint64_t min_frequency, std::size_t limit_alphabet,
                const nb::list& specials, const Ids& initial_alphabet, const nb::bytes& prefix) {
  const WordPieceSettings settings{vocab_size,
                                   min_frequency,
                                   limit_alphabet,
                                   copies_of(specials),
                                   {initial_alphabet.data(), initial_alphabet.data() + initial_alphabet.shape(0)},
                                   std::string(bytes_view(prefix))};
  WordPieceVocabulary trained;
  {
    nb::gil_scoped_release release;
    trained = train_wordpiece(words, settings);
  }
  nb::list tokens;
  for (const std::string& token : trained.vocabulary.tokens) tokens.append(nb::bytes(token.data(), token.size()));
  return nb::make_tuple(tokens, trained.alphabet, trained.clash);
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_wordpiece(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  m.def("wordpiece", &new_wordpiece, "tokens"_a, "ids"_a, "unknown"_a, "prefix"_a, "most_characters"_a, "punctuation"_a,
        "normalizer"_a.none());
  m.def("bert_words",
        [](std::shared_ptr<Normalizer> normalizer) -> std::shared_ptr<WordSource> {
          return std::make_shared<BertWords>(std::move(normalizer));
        },
        "normalizer"_a.none());
  m.def("train_wordpiece", &train, "words"_a, "vocab_size"_a, "min_frequency"_a, "limit_alphabet"_a, "specials"_a,
        "initial_alphabet"_a, "prefix"_a);
}

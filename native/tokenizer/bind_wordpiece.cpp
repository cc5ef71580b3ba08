// What Python sees of WordPiece.
#include <nanobind/stl/string.h>

#include <stdexcept>

#include "tokenizer/bindings.hpp"
#include "tokenizer/wordpiece.hpp"

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
}

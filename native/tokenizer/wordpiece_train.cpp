// Schuster and Nakajima (2012) choose the merge that raises the likelihood most; published WordPiece trainers take the
// most frequent pair instead, which makes this byte-pair encoding on characters, where one that continues a word is
// another symbol than one that starts a word.
#include "tokenizer/wordpiece_train.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "tokenizer/unicode_forms.hpp"

namespace seedbed::tokenizer {
namespace {

template <class Visit>
void each_character(std::string_view word, Visit&& visit) {
  for (const char *p = word.data(), *end = p + word.size(); p < end;) {
    const CodePoint code = read_code_point(p, end);
    if (code.value < CodePoint::kBytes) visit(code.value, p == word.data());
    p += code.length;
  }
}

struct Counted {
  std::uint64_t count = 0;
  bool continues = false;  // it stands inside a word somewhere
};

std::map<std::uint32_t, Counted> alphabet_of(const WordCounts& words, const WordPieceSettings& settings) {
  std::map<std::uint32_t, Counted> alphabet;
  std::unordered_map<std::uint32_t, Counted> counted;
  words.for_each([&](std::string_view word, std::uint64_t count) {
    each_character(word, [&](std::uint32_t code, bool first) {
      Counted& character = counted[code];
      character.count += count;
      character.continues |= !first;
    });
  });
  for (const char32_t code : settings.initial_alphabet) counted[code].count = std::numeric_limits<std::uint64_t>::max();
  std::vector<std::pair<std::uint32_t, Counted>> listed(counted.begin(), counted.end());
  std::sort(listed.begin(), listed.end(), [](const auto& a, const auto& b) {
    return a.second.count != b.second.count ? a.second.count > b.second.count : a.first < b.first;
  });
  if (listed.size() > settings.limit_alphabet) listed.resize(settings.limit_alphabet);
  alphabet.insert(listed.begin(), listed.end());
  return alphabet;
}

}  // namespace

WordPieceVocabulary train_wordpiece(const WordCounts& words, const WordPieceSettings& settings) {
  const std::string& prefix = settings.prefix;
  MergeTrainer trainer([prefix](std::string_view left, std::string_view right) {
    if (right.starts_with(prefix)) right.remove_prefix(prefix.size());
    return std::string(left).append(right);
  });
  for (const std::string& special : settings.specials) trainer.id_of(special);
  struct Ids {
    std::uint32_t starting, continuing;
  };
  std::unordered_map<std::uint32_t, Ids> ids;
  WordPieceVocabulary found{{}, settings.specials.size(), -1};
  const auto alphabet = alphabet_of(words, settings);
  const auto check = [&](std::uint32_t id) {
    if (id < settings.specials.size()) found.clash = id;
    return id;
  };
  const auto id_of = [&](std::uint32_t code, std::string spelling) {
    append_code_point(code, spelling);
    const std::uint32_t id = check(trainer.id_of(std::move(spelling)));
    found.alphabet = std::max<std::size_t>(found.alphabet, id + std::size_t{1});
    return id;
  };
  for (const auto& [code, character] : alphabet) ids[code].starting = id_of(code, "");
  for (const auto& [code, character] : alphabet)
    if (character.continues) ids[code].continuing = id_of(code, prefix);
  trainer.reserve(words.size(), words.bytes());
  std::vector<std::uint32_t> symbols;
  words.for_each([&](std::string_view word, std::uint64_t count) {
    symbols.clear();
    each_character(word, [&](std::uint32_t code, bool first) {
      if (const auto found = ids.find(code); found != ids.end())
        symbols.push_back(first ? found->second.starting : found->second.continuing);
    });
    trainer.add(symbols, count);
  });
  found.vocabulary = trainer.run(settings.vocab_size, settings.min_frequency);
  for (const Merge& merge : found.vocabulary.merges) check(merge.result);
  return found;
}

}  // namespace seedbed::tokenizer

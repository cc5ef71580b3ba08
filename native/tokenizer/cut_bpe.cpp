#include "tokenizer/cut_bpe.hpp"

#include <algorithm>

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

struct Scratch final : Algorithm::State {
  MergeScratch merge;
};

std::size_t length_of_character(std::string_view text, std::size_t at) {
  std::size_t to = at + 1;
  while (to < text.size() && continues(static_cast<std::uint8_t>(text[to]))) ++to;
  return to - at;
}

// Places in the changed text as places in the text itself. A space that was put in stands for the character behind it.
void map_back(const CutText& cut, std::string_view text, std::vector<Span>& spans, std::size_t first) {
  const auto before = [&cut](std::size_t place) {  // how many were put in before it
    return static_cast<std::size_t>(std::lower_bound(cut.spaces.begin(), cut.spaces.end(), place) - cut.spaces.begin());
  };
  for (std::size_t i = first; i < spans.size(); ++i) {
    Span& span = spans[i];
    span = {span.from - before(span.from), span.to - before(span.to)};
    if (span.from == span.to && span.from < text.size()) span.to += length_of_character(text, span.from);
  }
}

}  // namespace

std::unique_ptr<Algorithm::State> CutBpe::new_state() const { return std::make_unique<Scratch>(); }

void CutBpe::encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const {
  const CutText cut = cutter_->cut(section.text);
  const std::string_view text = cut.spaces.empty() ? section.text : std::string_view(cut.changed);
  const std::size_t first = spans ? spans->size() : 0;
  for (const Span& piece : cut.pieces) {
    const std::string_view word = text.substr(piece.from, piece.to - piece.from);
    std::uint32_t* room = ids.room(word.size());
    const std::size_t count = model_.encode(word, room, static_cast<Scratch&>(state).merge);
    ids.commit(count);
    if (!spans) continue;
    std::size_t from = piece.from;  // the tokens of a piece lie end to end
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t to = from + model_.token(room[i]).size();
      spans->push_back({from, to});
      from = to;
    }
  }
  if (spans && !cut.spaces.empty()) map_back(cut, section.text, *spans, first);
}

}  // namespace seedbed::tokenizer

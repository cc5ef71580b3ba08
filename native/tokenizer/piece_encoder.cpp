#include "tokenizer/piece_encoder.hpp"

#include <algorithm>
#include <cstring>

#include "tokenizer/piece_cache.hpp"
#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {

struct PieceEncoder::Words final : Algorithm::State {
  void shrink() override {
    constexpr std::size_t kMostText = std::size_t{1} << 20;
    for (std::string* text : {&normalized, &spaced})
      if (text->capacity() > kMostText) *text = std::string();
    scratch->shrink();
  }
  PieceCache cache;
  std::unique_ptr<PieceModel::Scratch> scratch;
  std::string normalized, spaced;
};

std::unique_ptr<Algorithm::State> PieceEncoder::new_state() const {
  auto words = std::make_unique<Words>();
  words->scratch = model_->new_scratch();
  return words;
}

namespace {

// The bytes of `inner` that each place stands for, in those of the text that `inner` was made from.
void trace_back(std::vector<Span>& spans, std::size_t first, const std::vector<Span>& origins) {
  for (std::size_t i = first; i < spans.size(); ++i) {
    Span& span = spans[i];
    if (span.from < span.to) span = {origins[span.from].from, origins[span.to - 1].to};
  }
}

std::size_t length_of_character(std::string_view text, std::size_t at) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(text.data());
  return read_character(p + at, p + text.size()).length;
}

}  // namespace

void PieceEncoder::encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const {
  Words& words = static_cast<Words&>(state);
  std::string_view text = section.text;
  std::vector<Span> from_text, from_normalized;
  const bool normalizes = normalizer_ && !section.normalized;
  if (normalizes) {
    words.normalized.clear();
    normalizer_->normalize(text, words.normalized, spans ? &from_text : nullptr);
    text = words.normalized;
  }
  words.spaced.clear();
  put_spaces(spaces_, text, section.at_start, words.spaced, spans ? &from_normalized : nullptr);
  const std::size_t before = spans ? spans->size() : 0;
  encode_words(words.spaced, words, ids, spans);
  if (!spans) return;
  trace_back(*spans, before, from_normalized);
  if (normalizes) trace_back(*spans, before, from_text);
}

void put_spaces(const Metaspace& spaces, std::string_view text, bool at_start, std::string& out,
                std::vector<Span>* origins) {
  const std::string_view mark = spaces.replacement;
  const auto marked = [&](std::size_t at) { return text[at] == ' ' || text.compare(at, mark.size(), mark) == 0; };
  const auto put_space = [&](Span origin) {
    out.push_back(' ');
    if (origins) origins->push_back(origin);
  };
  const bool prepends = spaces.prepend == Metaspace::Prepend::Always ||
                        (spaces.prepend == Metaspace::Prepend::First && at_start);
  bool at_word = true;  // where a space is put if there is none
  for (std::size_t at = 0; at < text.size();) {
    if (spaces.whitespace_split) {
      const auto* p = reinterpret_cast<const std::uint8_t*>(text.data());
      const Character character = read_character(p + at, p + text.size());
      if (character.classes & kSpace) {
        at_word = true;
        at += character.length;
        continue;
      }
    }
    // A text's first character belongs to the space before it, as `tokenizers` counts.
    if (at_word && prepends && !marked(at))
      put_space({at, at + length_of_character(text, at)});
    at_word = false;
    std::size_t to = at;  // up to the next mark or white space all stays as it is
    if (spaces.whitespace_split) {
      while (to < text.size() && text[to] != mark[0] && !(text[to] & 0x80) && text[to] > ' ') ++to;
    } else {
      const void* next = std::memchr(text.data() + at, mark[0], text.size() - at);
      to = next ? static_cast<std::size_t>(static_cast<const char*>(next) - text.data()) : text.size();
    }
    if (to == at) {
      if (text.compare(at, mark.size(), mark) == 0) {
        put_space({at, at + mark.size()});
        at += mark.size();
        continue;
      }
      to = at + length_of_character(text, at);
    }
    out.append(text, at, to - at);
    if (origins)
      for (; at < to; ++at) origins->push_back({at, at + 1});
    at = to;
  }
}

void PieceEncoder::encode_words(std::string_view text, Words& words, IdBuffer& ids, std::vector<Span>* spans) const {
  const bool cuts = spaces_.split || model_->cuts_at_spaces();
  PieceModel::Context context;
  for (std::size_t from = 0; from < text.size();) {
    std::size_t to = text.size();
    if (cuts) {
      to = from + 1;
      if (!spaces_.split)
        while (to < text.size() && text[to] == ' ' && text[from] == ' ') ++to;
      while (to < text.size() && text[to] != ' ') ++to;
    }
    if (spaces_.split) context.score = 0;
    const std::string_view word = text.substr(from, to - from);
    if (spans) {
      const std::size_t before = spans->size();
      model_->encode(word, context, *words.scratch, ids, spans);
      for (std::size_t i = before; i < spans->size(); ++i) {
        (*spans)[i].from += from;
        (*spans)[i].to += from;
      }
    } else {
      encode_word(word, context, words, ids);
    }
    from = to;
  }
}

void PieceEncoder::encode_word(std::string_view word, PieceModel::Context& context, Words& words, IdBuffer& ids) const {
  const auto known = [&](const auto& slot) {
    if (!model_->follows(word.size(), slot.slack, slot.ids, slot.count, context.score)) return false;
    std::copy_n(slot.ids, slot.count, ids.room(slot.count));
    ids.commit(slot.count);
    return true;
  };
  const std::size_t before = ids.size();
  if (word.size() <= PieceCache::kShortBytes) {
    const auto key = PieceCache::key_of(
        word, static_cast<std::size_t>(words.spaced.data() + words.spaced.size() - word.data()));
    PieceCache::Short& slot = words.cache.at(key);
    if (PieceCache::holds(slot, key) && known(slot)) return;
    model_->encode(word, context, *words.scratch, ids, nullptr);
    PieceCache::fill(slot, key, context.slack, ids.data() + before, ids.size() - before);
    return;
  }
  if (word.size() > PieceCache::Long::kBytes) return model_->encode(word, context, *words.scratch, ids, nullptr);
  const std::uint32_t hash = PieceCache::hash_of(word);
  PieceCache::Long& slot = words.cache.at(hash);
  if (PieceCache::holds(slot, word, hash) && known(slot)) return;
  model_->encode(word, context, *words.scratch, ids, nullptr);
  PieceCache::fill(slot, word, hash, context.slack, ids.data() + before, ids.size() - before);
}

void MetaspaceWords::each(std::string_view text, const Take& take) const {
  std::string normalized, spaced;
  if (normalizer_) {
    normalizer_->normalize(text, normalized, nullptr);
    text = normalized;
  }
  put_spaces(spaces_, text, true, spaced, nullptr);
  for (std::size_t from = 0, to = 0; from < spaced.size(); from = to) {
    to = std::min(spaced.find(' ', from + 1), spaced.size());
    take({spaced.data() + from, to - from});
  }
}

}  // namespace seedbed::tokenizer

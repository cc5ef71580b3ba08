#include "tokenizer/piece_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "tokenizer/cached_words.hpp"
#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {

struct PieceEncoder::Words final : Algorithm::State {
  void shrink() override {
    constexpr std::size_t kMostText = std::size_t{1} << 20;
    for (std::string* text : {&normalized, &spaced})
      if (text->capacity() > kMostText) *text = std::string();
    scratch->shrink();
  }
  WordCache cache;
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

// Of a byte: whether a character that begins with it may be white space.
constexpr std::array<bool, 256> kMayBeSpace = [] {
  std::array<bool, 256> may{};
  for (const std::uint8_t lead : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0xC2, 0xE1, 0xE2, 0xE3}) may[lead] = true;
  return may;
}();

void shift(std::vector<Span>& spans, std::size_t first, std::size_t by) {
  for (std::size_t i = first; i < spans.size(); ++i) {
    spans[i].from += by;
    spans[i].to += by;
  }
}

// CachedWords for a contextual model. With a word's ids the cache keeps its slack, in the place of a first id.
class ScoredWords {
 public:
  ScoredWords(const PieceModel& model, WordCache& cache, PieceModel::Scratch& scratch, const char* readable_end,
              IdBuffer& ids)
      : model_(model), cache_(cache), scratch_(scratch), readable_end_(readable_end), ids_(ids) {}

  void take(const char* from, const char* to) {
    Pieces& words = batch_.words;
    if (!words.count) words.restart(from);
    if (!words.reaches(to)) [[unlikely]] {
      look_up();
      words.restart(from);
      if (!words.reaches(to))
        return model_.encode({from, static_cast<std::size_t>(to - from)}, context_, scratch_, ids_, nullptr);
    }
    words.put(from, to);
    if (words.count == Pieces::kMost) look_up();
  }
  void look_up() {  // all that were taken
    find_keys_(batch_, cache_, readable_end_);
    for (std::size_t i = 0; i < batch_.words.count; ++i) {
      const std::string_view word = batch_.words[i];
      WordCache::ShortSlot* slot = is_short(word) ? cache_.find(batch_.hashes[i], batch_.keys[i]) : nullptr;
      std::span<const std::uint32_t> seen;
      if (slot) seen = cache_.ids_of(*slot);
      else if (is_medium(word)) seen = cache_.many_ids.find(word, static_cast<std::uint32_t>(batch_.hashes[i]));
      if (seen.empty() ||
          !model_.follows(word.size(), std::bit_cast<float>(seen[0]), seen.subspan(1), context_.score)) {
        encode(i, slot, seen.empty());
        continue;
      }
      std::copy(seen.begin() + 1, seen.end(), ids_.room(seen.size() - 1));
      ids_.commit(seen.size() - 1);
    }
    batch_.words.count = 0;
  }

 private:
  static bool is_short(std::string_view word) { return word.size() <= WordCache::kShortBytes; }
  static bool is_medium(std::string_view word) { return !is_short(word) && word.size() <= ManyIds::kMostBytes; }

  [[gnu::noinline]] void encode(std::size_t i, WordCache::ShortSlot* slot, bool is_new) {
    const std::string_view word = batch_.words[i];
    const std::size_t before = ids_.size();
    model_.encode(word, context_, scratch_, ids_, nullptr);
    if (!is_short(word) && !(is_medium(word) && is_new)) return;
    entry_.assign(1, std::bit_cast<std::uint32_t>(context_.slack));
    entry_.insert(entry_.end(), ids_.data() + before, ids_.data() + ids_.size());
    if (slot) cache_.refill(*slot, entry_);
    else if (is_short(word)) cache_.fill(batch_.hashes[i], batch_.keys[i], entry_);
    else cache_.many_ids.add(word, static_cast<std::uint32_t>(batch_.hashes[i]), entry_);
  }

  const PieceModel& model_;
  WordCache& cache_;
  PieceModel::Scratch& scratch_;
  const char* readable_end_;
  IdBuffer& ids_;
  PieceModel::Context context_;
  std::vector<std::uint32_t> entry_;
  WordBatch batch_;
  decltype(KnownWords::find_keys) find_keys_ = KnownWords::best().find_keys;
};

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
  if (!spans) return encode_words(words.spaced, words, ids);
  encode_with_spans(words.spaced, words, ids, *spans);
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
      while (to < text.size() && text[to] != mark[0] && !kMayBeSpace[static_cast<std::uint8_t>(text[to])]) ++to;
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

// Calls take(from, to) for each stretch that no piece can reach out of.
template <class Take>
void PieceEncoder::each_word(std::string_view text, Take&& take) const {
  const bool cuts = spaces_.split || model_->cuts_at_spaces();
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const char* to = end;
    if (cuts) {
      to = p + 1;
      if (!spaces_.split && *p == ' ')
        while (to < end && *to == ' ') ++to;
      while (to < end && *to != ' ') ++to;
    }
    take(p, to);
    p = to;
  }
}

void PieceEncoder::encode_words(std::string_view text, Words& words, IdBuffer& ids) const {
  const char* end = text.data() + text.size();
  if (model_->contextual()) {
    ScoredWords scored(*model_, words.cache, *words.scratch, end, ids);
    each_word(text, [&](const char* from, const char* to) { scored.take(from, to); });
    return scored.look_up();
  }
  CachedWords cached(words.cache, end, ids, [&](std::string_view word, IdBuffer& out) {
    PieceModel::Context context;
    model_->encode(word, context, *words.scratch, out, nullptr);
  });
  each_word(text, [&](const char* from, const char* to) { cached.take(from, to); });
  cached.look_up();
}

void PieceEncoder::encode_with_spans(std::string_view text, Words& words, IdBuffer& ids,
                                     std::vector<Span>& spans) const {
  PieceModel::Context context;
  each_word(text, [&](const char* from, const char* to) {
    const std::size_t before = spans.size();
    if (!model_->contextual()) context.score = 0;
    model_->encode({from, static_cast<std::size_t>(to - from)}, context, *words.scratch, ids, &spans);
    shift(spans, before, static_cast<std::size_t>(from - text.data()));
  });
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

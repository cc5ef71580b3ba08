#include "tokenizer/wordpiece.hpp"

#include <algorithm>
#include <optional>
#include <span>

#include "tokenizer/cached_words.hpp"

namespace seedbed::tokenizer {
namespace {

// Words that are longer are normalised part by part.
constexpr std::size_t kMostAtOnce = std::size_t{1} << 16;

std::vector<std::pair<std::string, std::uint32_t>> continuing(const WordPiece::Vocabulary& vocabulary) {
  std::vector<std::pair<std::string, std::uint32_t>> found;
  for (const auto& [token, id] : vocabulary.tokens)
    if (token.starts_with(vocabulary.prefix)) found.emplace_back(token.substr(vocabulary.prefix.size()), id);
  return found;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; }));
}

std::string_view view(const char* from, const char* to) { return {from, static_cast<std::size_t>(to - from)}; }

}  // namespace

// Words in the text are remembered apart from words in normalised text: the same bytes may mean other ids.
struct WordPiece::Words final : Algorithm::State {
  void shrink() override {
    if (scratch.capacity() > 4 * kMostAtOnce) scratch = std::string();
  }
  WordCache& cache(bool raw) {
    std::optional<WordCache>& cache = caches[raw];
    if (!cache) cache.emplace();
    return *cache;
  }
  std::optional<WordCache> caches[2];
  std::string scratch;
};

// Where words come from: the text as it is, to be normalised word by word, or normalised text.
struct WordPiece::Source {
  bool raw;
  WordCache& cache;
  std::string& scratch;
};

WordPiece::WordPiece(const Vocabulary& vocabulary, std::shared_ptr<const Normalizer> normalizer, bool punctuation)
    : whole_(vocabulary.tokens),
      continuing_(continuing(vocabulary)),
      unknown_(vocabulary.unknown),
      most_characters_(vocabulary.most_characters),
      normalizer_(std::move(normalizer)),
      bert_(dynamic_cast<const BertNormalizer*>(normalizer_.get())),
      cut_(punctuation),
      raw_cut_(bert_ ? BertCut(punctuation, bert_->options()) : cut_) {}

std::unique_ptr<Algorithm::State> WordPiece::new_state() const { return std::make_unique<Words>(); }

void WordPiece::encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const {
  Words& words = static_cast<Words&>(state);
  const bool raw = bert_ && !section.normalized;
  std::string normalized;
  std::vector<Span> origins;
  std::string_view text = section.text;
  const char* readable_end = section.readable_end;
  const bool changed = normalizer_ && !raw && !section.normalized;
  if (changed) {
    normalizer_->normalize(text, normalized, spans ? &origins : nullptr);
    text = normalized;
    readable_end = text.data() + text.size();
  }
  if (!spans) return encode_words(text, readable_end, {raw, words.cache(raw), words.scratch}, ids);
  (raw ? raw_cut_ : cut_).each(text.data(), text.data() + text.size(), [&](const char* from, const char* to) {
    const std::size_t before = spans->size();
    encode_new_word(view(from, to), raw, words.scratch, ids, spans);
    const auto place = static_cast<std::size_t>(from - text.data());
    for (Span& span : std::span(*spans).subspan(before)) {
      span = {span.from + place, span.to + place};
      if (changed) span = {origins[span.from].from, origins[span.to - 1].to};
    }
  });
}

void WordPiece::encode_words(std::string_view text, const char* readable_end, const Source& source, IdBuffer& ids) const {
  CachedWords cached(source.cache, readable_end, ids, [&](std::string_view word, IdBuffer& out) {
    if (word.size() > kMostAtOnce && source.raw) return encode_endless_word(word, out);
    encode_new_word(word, source.raw, source.scratch, out, nullptr);
  });
  (source.raw ? raw_cut_ : cut_).each(text.data(), text.data() + text.size(),
                                      [&](const char* from, const char* to) { cached.take(from, to); });
  cached.look_up();
}

// Appends the ids of a word and, unless `spans` is null, which of its bytes they stand for.
void WordPiece::encode_new_word(std::string_view word, bool raw, std::string& scratch, IdBuffer& ids,
                                std::vector<Span>* spans) const {
  if (!raw) return encode_pieces(word, ids, spans);
  std::vector<Span> origins;
  scratch.clear();
  bert_->normalize(word, scratch, spans ? &origins : nullptr);
  cut_.each(scratch.data(), scratch.data() + scratch.size(), [&](const char* from, const char* to) {
    const std::size_t before = spans ? spans->size() : 0;
    encode_pieces(view(from, to), ids, spans);
    if (!spans) return;
    const auto place = static_cast<std::size_t>(from - scratch.data());
    for (Span& span : std::span(*spans).subspan(before))
      span = {origins[span.from + place].from, origins[span.to + place - 1].to};
  });
}

// A word of the text of any length in bounded memory: normalised in parts that no mark reaches across. A word of
// normalised text that may go on in the next part is kept for it, but for what makes no difference.
void WordPiece::encode_endless_word(std::string_view word, IdBuffer& ids) const {
  const char *p = word.data(), *end = p + word.size();
  std::string part;
  while (p < end) {
    const char* to = p + std::min<std::size_t>(kMostAtOnce, static_cast<std::size_t>(end - p));
    while (to < end) {
      const CodePoint code = read_code_point(to, end);
      const std::uint16_t flags = kind_of(code.value).flags;
      if (code.value < CodePoint::kBytes && (flags & kStableNfd) && !(flags & kControl)) break;
      to += code.length;
    }
    bert_->normalize(view(p, to), part, nullptr);
    p = to;
    std::string_view last;
    const char* part_end = part.data() + part.size();
    cut_.each(part.data(), part_end, [&](const char* from, const char* until) {
      if (until == part_end && p < end)
        last = view(from, until);
      else
        encode_pieces(view(from, until), ids, nullptr);
    });
    if (characters(last) > most_characters_) {
      const char* keep = last.data();
      for (std::size_t i = 0; i <= most_characters_; ++i) keep += read_code_point(keep, part_end).length;
      last = view(last.data(), keep);
    }
    part = std::string(last);
  }
}

// Appends the longest pieces of a word of normalised text, or the unknown token.
void WordPiece::encode_pieces(std::string_view word, IdBuffer& ids, std::vector<Span>* spans) const {
  const char *p = word.data(), *end = p + word.size();
  const std::size_t before = spans ? spans->size() : 0;
  if (word.size() <= most_characters_ || characters(word) <= most_characters_) {
    std::uint32_t *room = ids.room(word.size()), *to = room;
    for (const DoubleArray* trie = &whole_; p < end; trie = &continuing_) {
      std::uint32_t longest = 0, id = 0;
      trie->prefixes(p, end, [&](std::uint32_t length, std::uint32_t value) {
        longest = length;
        id = value;
      });
      if (longest == 0) break;
      const auto from = static_cast<std::size_t>(p - word.data());
      if (spans) spans->push_back({from, from + longest});
      *to++ = id;
      p += longest;
    }
    if (p == end) return ids.commit(static_cast<std::size_t>(to - room));
  }
  ids.push(unknown_);
  if (spans) {
    spans->resize(before);
    spans->push_back({0, word.size()});
  }
}

}  // namespace seedbed::tokenizer

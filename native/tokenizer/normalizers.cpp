#include "tokenizer/normalizers.hpp"

#include <algorithm>

#include "tokenizer/unicode_forms.hpp"

namespace seedbed::tokenizer {
namespace {

// Where normalised text goes: bytes, and the origin of each if it is wanted.
class Sink {
 public:
  Sink(std::string_view text, std::string& out, std::vector<Span>* origins)
      : start_(text.data()), out_(out), origins_(origins) {}

  Span span(const char* from, const char* to) const {
    return {static_cast<std::size_t>(from - start_), static_cast<std::size_t>(to - start_)};
  }
  void put(std::uint32_t code, Span origin) {
    append_code_point(code, out_);
    mark(origin);
  }
  void put(char c, Span origin) {
    out_ += c;
    if (origins_) origins_->push_back(origin);
  }
  void put(std::string_view text, Span origin) {
    out_ += text;
    mark(origin);
  }
  void keep(const char* from, const char* to) {  // as it stands in the text
    out_.append(from, to);
    if (!origins_) return;
    while (from < to) {
      const char* next = from + read_code_point(from, to).length;
      origins_->insert(origins_->end(), static_cast<std::size_t>(next - from), span(from, next));
      from = next;
    }
  }

 private:
  void mark(Span origin) {
    if (origins_) origins_->resize(out_.size(), origin);
  }
  const char* start_;
  std::string& out_;
  std::vector<Span>* origins_;
};

// Copies a text but for the characters that have one of `flags`: change(code, place) writes what becomes of those.
template <class Change>
void change_flagged(std::string_view text, std::uint16_t flags, Sink& sink, Change&& change) {
  const char *kept = text.data(), *end = kept + text.size();
  for (const char* p = kept; p < end;) {
    const CodePoint code = read_code_point(p, end);
    const char* next = p + code.length;
    if (kind_of(code.value).flags & flags) {
      sink.keep(kept, p);
      change(code.value, sink.span(p, next));
      kept = next;
    }
    p = next;
  }
  sink.keep(kept, end);
}

// A decomposed character on its way, with what it does to the text: how many characters it comes on top of those that
// it stands for (1), or how many more than one it stands for (negative), as `tokenizers` keeps account.
struct Part {
  std::uint32_t code;
  int change;
  std::uint8_t combining_class;
};

// Canonical ordering: marks are sorted by class between characters of class 0.
void order(std::vector<Part>& parts) {
  for (auto from = parts.begin(); from != parts.end();) {
    if (from->combining_class == 0) {
      ++from;
      continue;
    }
    const auto to = std::find_if(from, parts.end(), [](const Part& part) { return part.combining_class == 0; });
    std::stable_sort(from, to,
                     [](const Part& a, const Part& b) { return a.combining_class < b.combining_class; });
    from = to;
  }
}

// Canonical composition: a mark joins the last character of class 0 unless one of no lower class stands between.
void compose_all(std::vector<Part>& parts) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t base = kNone, kept = 0;
  for (const Part part : parts) {
    if (base != kNone) {
      const bool adjacent = kept == base + 1;
      if (adjacent || parts[kept - 1].combining_class < part.combining_class) {
        if (const std::uint32_t composed = compose(parts[base].code, part.code)) {
          parts[base].code = composed;
          parts[base].change += part.change - 1;
          continue;
        }
      }
    }
    if (part.combining_class == 0) base = kept;
    parts[kept++] = part;
  }
  parts.resize(kept);
}

}  // namespace

UnicodeForm::UnicodeForm(bool compatible, bool composed)
    : compatible_(compatible),
      composed_(composed),
      stable_(compatible ? (composed ? kStableNfkc : kStableNfkd) : (composed ? kStableNfc : kStableNfd)) {}

bool UnicodeForm::stable(std::uint32_t code) const { return code < 0x80 || (kind_of(code).flags & stable_); }

void UnicodeForm::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  const char *start = text.data(), *end = start + text.size();
  const char *kept = start, *last = start;  // the stable character before p, with which what follows may compose
  for (const char* p = start; p < end;) {
    if (const std::size_t ascii = ascii_prefix(p, end)) {
      p += ascii;
      last = p - 1;
      continue;
    }
    const CodePoint code = read_code_point(p, end);
    if (stable(code.value)) {
      last = p;
      p += code.length;
      continue;
    }
    sink.keep(kept, last);
    while (p < end) {
      const CodePoint next = read_code_point(p, end);
      if (stable(next.value)) break;
      p += next.length;
    }
    normalize_run(last, p, start, out, origins);
    kept = last = p;
  }
  sink.keep(kept, end);
}

void UnicodeForm::normalize_run(const char* from, const char* to, const char* start, std::string& out,
                                std::vector<Span>* origins) const {
  std::vector<Part> parts;
  std::vector<Span> sources;
  Sink sink({start, static_cast<std::size_t>(to - start)}, out, origins);
  for (const char* p = from; p < to;) {
    const CodePoint code = read_code_point(p, to);
    std::uint32_t room[kLongestDecomposition];
    const std::size_t count = decompose(code.value, compatible_, room);
    for (std::size_t i = 0; i < count; ++i) parts.push_back({room[i], i > 0, kind_of(room[i]).combining_class});
    if (origins) sources.push_back(sink.span(p, p + code.length));
    p += code.length;
  }
  order(parts);
  if (composed_) compose_all(parts);
  std::size_t used = 0;  // characters of the run that parts so far stand for
  for (const Part& part : parts) {
    Span origin{0, 0};
    if (origins && part.change <= 0) {
      origin = sources[used];
    } else if (origins && used > 0) {
      origin = sources[used - 1];
    }
    if (part.change <= 0) used += static_cast<std::size_t>(1 - part.change);
    sink.put(part.code, origin);
  }
}

void Lowercase::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  change_flagged(text, kCased, sink, [&](std::uint32_t code, Span place) {
    if (code < 0x80) return sink.put(code + ('a' - 'A'), place);
    for (const std::uint32_t lower : lower_case(code)) sink.put(lower, place);
  });
}

void Drop::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  change_flagged(text, flag_, sink, [](std::uint32_t, Span) {});
}

void Replace::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  std::size_t kept = 0;
  while (!pattern_.empty()) {
    const std::size_t found = text.find(pattern_, kept);
    if (found == std::string_view::npos) break;
    const char *from = text.data() + found, *to = from + pattern_.size(), *last = from;
    sink.keep(text.data() + kept, from);
    for (const char* p = from; p < to; p += read_code_point(p, to).length) last = p;
    sink.put(content_, sink.span(last, to));
    kept = found + pattern_.size();
  }
  sink.keep(text.data() + kept, text.data() + text.size());
}

void Prepend::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  if (text.empty()) return;
  Sink sink(text, out, origins);
  const char *from = text.data(), *end = from + text.size();
  sink.put(content_, sink.span(from, from + read_code_point(from, end).length));
  sink.keep(from, end);
}

void Strip::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  const char *from = text.data(), *end = from + text.size(), *to = from;
  bool leading = left_;
  for (const char* p = from; p < end;) {
    const CodePoint code = read_code_point(p, end);
    p += code.length;
    const bool blank = kind_of(code.value).flags & kBlank;
    if (leading && blank) from = p;
    leading = leading && blank;
    if (!blank || !right_) to = p;
  }
  if (from < to) sink.keep(from, to);
}

void NormalizerSequence::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  if (steps_.size() == 1) return steps_[0]->normalize(text, out, origins);
  std::string before(text), after;
  std::vector<Span> sources, places;  // of `before` in the text; of `after` in `before`
  if (origins) Sink(text, after, &sources).keep(text.data(), text.data() + text.size());
  for (const auto& step : steps_) {
    after.clear();
    places.clear();
    step->normalize(before, after, origins ? &places : nullptr);
    for (Span& place : places)
      if (place.from < place.to) place = {sources[place.from].from, sources[place.to - 1].to};
    before.swap(after);
    if (origins) sources.swap(places);
  }
  out += before;
  if (origins) origins->insert(origins->end(), sources.begin(), sources.end());
}

namespace {

class CleanText final : public Normalizer {
 public:
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override {
    Sink sink(text, out, origins);
    change_flagged(text, kControl | kBlank, sink, [&](std::uint32_t code, Span place) {
      if (!(kind_of(code).flags & kControl)) sink.put(' ', place);
    });
  }
};

class SpacedIdeographs final : public Normalizer {
 public:
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override {
    Sink sink(text, out, origins);
    change_flagged(text, kIdeograph, sink, [&](std::uint32_t code, Span place) {
      sink.put(' ', place);
      sink.put(code, place);
      sink.put(' ', place);
    });
  }
};

NormalizerSequence steps_of(const BertNormalizer::Options& options) {
  std::vector<std::shared_ptr<const Normalizer>> steps;
  if (options.clean_text) steps.push_back(std::make_shared<CleanText>());
  if (options.handle_chinese_chars) steps.push_back(std::make_shared<SpacedIdeographs>());
  if (options.strip_accents) {
    steps.push_back(std::make_shared<UnicodeForm>(false, false));
    steps.push_back(std::make_shared<Drop>(kNonspacing));
  }
  if (options.lowercase) steps.push_back(std::make_shared<Lowercase>());
  return NormalizerSequence(std::move(steps));
}

}  // namespace

BertNormalizer::BertNormalizer(Options options) : options_(options), steps_(steps_of(options)) {
  for (std::uint8_t byte = 0; byte < 0x80; ++byte) {
    const std::uint16_t flags = kind_of(byte).flags;
    ascii_[byte] = static_cast<char>(options_.lowercase && (flags & kCased) ? byte + ('a' - 'A') : byte);
    if (options_.clean_text && (flags & kBlank)) ascii_[byte] = ' ';
    if (options_.clean_text && (flags & kControl)) ascii_[byte] = kDropped;
  }
}

void BertNormalizer::normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  const std::size_t before = out.size(), origins_before = origins ? origins->size() : 0;
  if (normalize_at_once(text, out, origins)) return;
  out.resize(before);
  if (origins) origins->resize(origins_before);
  steps_.normalize(text, out, origins);
}

// All steps, character by character. False if marks stay, which may have to change places.
bool BertNormalizer::normalize_at_once(std::string_view text, std::string& out, std::vector<Span>* origins) const {
  Sink sink(text, out, origins);
  const auto put = [&](std::uint32_t code, Span place) {
    const unicode_forms::Kind kind = kind_of(code);
    if (options_.strip_accents && (kind.flags & kNonspacing)) return true;
    if (options_.strip_accents && kind.combining_class) return false;
    if (options_.lowercase && (kind.flags & kCased)) {
      for (const std::uint32_t lower : lower_case(code)) sink.put(lower, place);
    } else {
      sink.put(code, place);
    }
    return true;
  };
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    if (static_cast<std::uint8_t>(*p) < 0x80) {
      if (const char c = ascii_[static_cast<std::uint8_t>(*p)]; c != kDropped) sink.put(c, sink.span(p, p + 1));
      ++p;
      continue;
    }
    const CodePoint code = read_code_point(p, end);
    const std::uint16_t flags = kind_of(code.value).flags;
    const Span place = sink.span(p, p + code.length);
    p += code.length;
    if (options_.clean_text && (flags & (kControl | kBlank))) {
      if (!(flags & kControl)) sink.put(' ', place);
      continue;
    }
    const bool apart = options_.handle_chinese_chars && (flags & kIdeograph);
    if (apart) sink.put(' ', place);
    std::uint32_t parts[kLongestDecomposition] = {code.value};
    const bool whole = !options_.strip_accents || (flags & kStableNfd);
    const std::size_t count = whole ? 1 : decompose(code.value, false, parts);
    for (std::size_t i = 0; i < count; ++i)
      if (!put(parts[i], place)) return false;
    if (apart) sink.put(' ', place);
  }
  return true;
}

}  // namespace seedbed::tokenizer

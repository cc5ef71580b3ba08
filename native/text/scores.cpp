// Sources of the formulas: Gopher (Rae et al. 2021, table A1) as datatrove reads it, FineWeb (Penedo et al. 2024,
// section 3.6), DCLM-Baseline (Li et al. 2024, appendix K). Names begin with the project's where projects differ.
#include "text/scores.hpp"

#include <algorithm>
#include <cmath>

#include "text/ngrams.hpp"
#include "tokenizer/unicode.hpp"

namespace seedbed::text {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr double kSpacelessShare = 0.3;
constexpr std::uint32_t kEllipsis = 0x2026, kBullet = 0x2022;
constexpr std::string_view kStopWordList[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
constexpr std::size_t kShortLine = 30;

double ratio(double part, double whole) { return whole > 0 ? part / whole : kNothing; }

// "..." without overlaps, as str.count does it.
std::size_t count_dots(const std::vector<std::uint32_t>& codes) {
  std::size_t found = 0, run = 0;
  for (const std::uint32_t code : codes) {
    run = code == '.' ? run + 1 : 0;
    if (run == 3) {
      ++found;
      run = 0;
    }
  }
  return found;
}

bool ends_with_ellipsis(const Characters& text, Range line) {
  if (line.size() && text.codes[line.to - 1] == kEllipsis) return true;
  return line.size() >= 3 && text.equal({line.to - 3, line.to}, "...");
}

}  // namespace

Scorer::Scorer() : tables_(std::make_unique<NgramTables>()) {}
Scorer::~Scorer() = default;

void Scorer::measure(std::string_view text, unsigned families, double* scores) {
  std::fill_n(scores, kScores, kNothing);
  text_.read(text);
  std::size_t letters = 0, spaceless = 0, visible = 0;
  for (std::size_t i = 0; i < text_.size(); ++i) {
    const std::uint8_t kind = text_.classes[i];
    visible += !(kind & tokenizer::kSpace);
    if (kind & (tokenizer::kLetter | tokenizer::kMark)) {
      ++letters;
      spaceless += is_spaceless(text_.codes[i]);
    }
  }
  spaceless_ = letters && static_cast<double>(spaceless) / static_cast<double>(letters) > kSpacelessShare;
  scores[kCharacters] = static_cast<double>(text_.size());
  if (families & kProse) {
    scores[kLetterShare] = visible ? static_cast<double>(letters) / static_cast<double>(visible) : 0.0;
    prose(scores);
  }
  if (families & kGopher) gopher(scores);
  if (families & kFineweb) fineweb(scores);
  if (families & kRepetition) repetition(scores);
  if (families & kDclm) dclm(scores);
}

void Scorer::prose(double* scores) const {
  KeyCounts& counts = tables_->counts;
  counts.start(text_.lines.size());
  std::size_t total = 0, repeated = 0;
  for (const Range& one : text_.lines) {
    const Range line = text_.stripped(one);
    if (!line.size()) continue;
    KeyCounts::Slot& slot = counts.at(text_.hash(line));
    total += line.size();
    if (slot.count++) repeated += line.size();
  }
  scores[kRepeatedLineShare] = total ? static_cast<double>(repeated) / static_cast<double>(total) : 0.0;
  if (spaceless_ || text_.words.empty()) return;
  std::size_t visible = 0, longest = 0, symbols = count_dots(text_.codes);
  for (const Word& word : text_.words) {
    visible += word.size();
    longest = std::max<std::size_t>(longest, word.size());
  }
  for (const std::uint32_t code : text_.codes) symbols += code == '#' || code == kEllipsis;
  const auto words = static_cast<double>(text_.words.size());
  scores[kMeanWordLength] = static_cast<double>(visible) / words;
  scores[kLongestWord] = static_cast<double>(longest);
  scores[kSymbolWordRatio] = static_cast<double>(symbols) / words;
}

void Scorer::gopher(double* scores) const {
  // Lines as str.splitlines has them: what ends with LF has no empty line after it.
  std::size_t lines = text_.lines.size() - (text_.lines.back().size() == 0), bullets = 0, ellipses = 0;
  for (const Range& one : text_.lines) {
    const Range line = text_.stripped(one);
    if (!line.size()) continue;
    const std::uint32_t first = text_.codes[line.from];
    bullets += first == '-' || first == kBullet;
    ellipses += ends_with_ellipsis(text_, line);
  }
  scores[kBulletLineShare] = ratio(static_cast<double>(bullets), static_cast<double>(lines));
  scores[kEllipsisLineShare] = ratio(static_cast<double>(ellipses), static_cast<double>(lines));
  if (spaceless_) return;
  std::size_t words = 0, characters = 0, alphabetic = 0, hashes = 0, dots = count_dots(text_.codes);
  unsigned stop_words = 0;
  for (const Word& word : text_.words) {
    alphabetic += word.letter;
    if (!word.symbol) {
      ++words;
      characters += word.size();
    }
    for (unsigned k = 0; k < std::size(kStopWordList); ++k)
      if (text_.equal({word.from, word.to}, kStopWordList[k])) stop_words |= 1u << k;
  }
  for (const std::uint32_t code : text_.codes) {
    hashes += code == '#';
    dots += code == kEllipsis;
  }
  const auto all = static_cast<double>(text_.words.size());
  scores[kGopherWords] = static_cast<double>(words);
  scores[kGopherMeanWordLength] = ratio(static_cast<double>(characters), static_cast<double>(words));
  scores[kHashWordRatio] = ratio(static_cast<double>(hashes), all);
  scores[kEllipsisWordRatio] = ratio(static_cast<double>(dots), all);
  scores[kAlphabeticWordShare] = ratio(static_cast<double>(alphabetic), all);
  scores[kStopWords] = static_cast<double>(__builtin_popcount(stop_words));
}

Scorer::Repeats Scorer::repeats(const std::vector<Range>& segments) {
  KeyCounts& counts = tables_->counts;
  counts.start(segments.size());
  Repeats found;
  for (const Range& segment : segments) {
    KeyCounts::Slot& slot = counts.at(text_.hash(segment));
    ++found.segments;
    found.characters += segment.size();
    if (slot.count) {
      ++found.later;
      found.later_characters += segment.size();
      // The first of equals counts once, when the second comes.
      found.all += slot.count == 1 ? 2 : 1;
      found.all_characters += segment.size() * (slot.count == 1 ? 2u : 1u);
    }
    ++slot.count;
  }
  return found;
}

std::vector<Range> Scorer::split(Range range, std::size_t newlines, bool keep_empty) const {
  std::vector<Range> segments;
  std::uint32_t from = range.from;
  for (std::uint32_t i = range.from; i < range.to;) {
    std::uint32_t end = i;
    while (end < range.to && text_.codes[end] == '\n') ++end;
    if (end - i >= newlines) {
      if (i > from || keep_empty) segments.push_back({from, i});
      from = end;
    }
    i = end > i ? end : i + 1;
  }
  if (range.to > from || keep_empty) segments.push_back({from, range.to});
  return segments;
}

void Scorer::fineweb(double* scores) {
  std::vector<Range> lines;
  std::size_t punctuated = 0, shorts = 0, newlines = 0;
  for (const Range& line : text_.lines) {
    if (!text_.stripped(line).size()) continue;
    lines.push_back(line);
    punctuated += ends_sentence(text_.codes[line.to - 1]);
    shorts += line.size() <= kShortLine;
  }
  newlines = text_.lines.size() - 1;
  const auto count = static_cast<double>(lines.size());
  scores[kFinewebPunctuatedLineShare] = ratio(static_cast<double>(punctuated), count);
  scores[kFinewebShortLineShare] = ratio(static_cast<double>(shorts), count);
  scores[kFinewebDuplicateLineCharacterShare] =
      ratio(static_cast<double>(repeats(lines).later_characters), static_cast<double>(text_.size() - newlines));
  if (!spaceless_)
    scores[kFinewebNewlineWordRatio] = ratio(static_cast<double>(newlines), static_cast<double>(text_.words.size()));
}

void Scorer::repetition(double* scores) {
  const Range whole{0, static_cast<std::uint32_t>(text_.size())};
  const auto size = static_cast<double>(text_.size());
  const Repeats lines = repeats(split(whole, 1, true)), paragraphs = repeats(split(text_.stripped(whole), 2, true));
  scores[kDuplicateLineShare] = ratio(static_cast<double>(lines.later), static_cast<double>(lines.segments));
  scores[kDuplicateLineCharacterShare] = ratio(static_cast<double>(lines.later_characters), size);
  scores[kDuplicateParagraphShare] =
      ratio(static_cast<double>(paragraphs.later), static_cast<double>(paragraphs.segments));
  scores[kDuplicateParagraphCharacterShare] = ratio(static_cast<double>(paragraphs.later_characters), size);
  if (spaceless_) return;
  const std::vector<Word>& words = text_.words;
  NgramTables& tables = *tables_;
  for (std::size_t n = 2; n <= 4; ++n) {
    tables.make_keys(words, n);
    if (tables.keys.empty()) continue;
    tables.counts.start(tables.keys.size());
    std::uint32_t most = 0;
    for (std::uint32_t i = 0; i < tables.keys.size(); ++i) {
      KeyCounts::Slot& slot = tables.counts.at(tables.keys[i]);
      if (!slot.count) slot.first = i;
      most = std::max(most, ++slot.count);
    }
    // Of those that are equally frequent the one that came first.
    std::size_t top = 0;
    while (tables.counts.at(tables.keys[top]).count != most) ++top;
    std::size_t characters = n - 1;  // the spaces
    for (std::size_t k = top; k < top + n; ++k) characters += words[k].size();
    scores[kTop2gramShare + n - 2] = static_cast<double>(characters) * most / size;
  }
  tables.joined.read(text_, words);
  bool any = true;  // where nothing of n words repeats, nothing longer does
  for (std::size_t n = 5; n <= 10; ++n) {
    std::size_t repeated = 0;
    tables.counts.start(words.size());
    for (std::size_t i = 0; any && i + n <= words.size();) {
      KeyCounts::Slot& slot = tables.counts.at(tables.joined.hash(i, i + n));
      if (slot.count) {
        repeated += tables.joined.before(i + n) - tables.joined.before(i);
        i += n;
      } else {
        slot.count = 1;
        ++i;
      }
    }
    any = repeated > 0;
    scores[kDuplicate5gramShare + n - 5] = ratio(static_cast<double>(repeated), size);
  }
}

void Scorer::dclm(double* scores) {
  std::vector<Range> lines;
  for (const Range& one : text_.lines)
    if (const Range line = text_.stripped(one); line.size()) lines.push_back(line);
  std::vector<Range> paragraphs;
  for (const Range& one : split({0, static_cast<std::uint32_t>(text_.size())}, 2, false))
    if (const Range paragraph = text_.stripped(one); paragraph.size()) paragraphs.push_back(paragraph);
  const Repeats of_lines = repeats(lines), of_paragraphs = repeats(paragraphs);
  const auto put = [scores](const Repeats& found, Score count, Score characters) {
    scores[count] = ratio(static_cast<double>(found.all), static_cast<double>(found.segments));
    scores[characters] = ratio(static_cast<double>(found.all_characters), static_cast<double>(found.characters));
  };
  put(of_lines, kDclmRepeatedLineShare, kDclmRepeatedLineCharacterShare);
  put(of_paragraphs, kDclmRepeatedParagraphShare, kDclmRepeatedParagraphCharacterShare);
  if (!spaceless_) dclm_ngrams(scores);
}

void Scorer::dclm_ngrams(double* scores) {
  NgramTables& tables = *tables_;
  std::vector<Word>& words = tables.words;
  words.clear();
  std::size_t stop_words = 0, total = 0;
  for (const Word& word : text_.words) {
    stop_words += std::any_of(std::begin(kStopWordList), std::end(kStopWordList),
                              [&](std::string_view stop) { return text_.equal({word.from, word.to}, stop); });
    if (word.symbol) continue;
    words.push_back(word);
    total += word.size();
  }
  scores[kDclmStopWordCount] = static_cast<double>(stop_words);
  bool any = true;
  for (std::size_t n = 2; n <= 10; ++n) {
    std::size_t characters = 0;
    tables.make_keys(words, n);
    if (any && !tables.keys.empty()) {
      tables.counts.start(tables.keys.size());
      std::uint32_t most = 0;
      for (const std::uint64_t key : tables.keys) most = std::max(most, ++tables.counts.at(key).count);
      any = most > 1;
      const auto length = [&](std::size_t i) {
        std::size_t sum = 0;
        for (std::size_t k = i; k < i + n; ++k) sum += words[k].size();
        return sum;
      };
      if (any && n <= 4) {
        // The longest of those that are equally frequent.
        std::size_t longest = 0;
        for (std::size_t i = 0; i < tables.keys.size(); ++i)
          if (tables.counts.at(tables.keys[i]).count == most) longest = std::max(longest, length(i));
        characters = longest * most;
      } else if (any) {
        std::size_t until = 0;  // words before it are counted
        for (std::size_t i = 0; i < tables.keys.size(); ++i)
          if (tables.counts.at(tables.keys[i]).count > 1)
            for (std::size_t k = std::max(i, until); k < i + n; ++k) {
              characters += words[k].size();
              until = k + 1;
            }
      }
    }
    const std::size_t place = n <= 4 ? kDclmTop2gramShare + n - 2 : kDclmRepeated5gramShare + n - 5;
    scores[place] = ratio(static_cast<double>(characters), static_cast<double>(total));
  }
}

}  // namespace seedbed::text

// Numbers that quality rules bound, each measured once per text. The rules themselves are in curation/filters.py.
#pragma once
#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "text/characters.hpp"

namespace seedbed::text {

enum Score : std::size_t {
  kCharacters, kLetterShare, kRepeatedLineShare, kMeanWordLength, kLongestWord, kSymbolWordRatio,
  kGopherWords, kGopherMeanWordLength, kHashWordRatio, kEllipsisWordRatio, kBulletLineShare, kEllipsisLineShare,
  kAlphabeticWordShare, kStopWords,
  kDuplicateLineShare, kDuplicateLineCharacterShare, kDuplicateParagraphShare, kDuplicateParagraphCharacterShare,
  kTop2gramShare, kTop3gramShare, kTop4gramShare,
  kDuplicate5gramShare, kDuplicate6gramShare, kDuplicate7gramShare, kDuplicate8gramShare, kDuplicate9gramShare,
  kDuplicate10gramShare,
  kFinewebPunctuatedLineShare, kFinewebShortLineShare, kFinewebDuplicateLineCharacterShare, kFinewebNewlineWordRatio,
  kDclmStopWordCount, kDclmRepeatedLineShare, kDclmRepeatedLineCharacterShare, kDclmRepeatedParagraphShare,
  kDclmRepeatedParagraphCharacterShare, kDclmTop2gramShare, kDclmTop3gramShare, kDclmTop4gramShare,
  kDclmRepeated5gramShare, kDclmRepeated6gramShare, kDclmRepeated7gramShare, kDclmRepeated8gramShare,
  kDclmRepeated9gramShare, kDclmRepeated10gramShare,
  kScores
};

inline constexpr std::array<std::string_view, kScores> kScoreNames = {
    "characters", "letter_share", "repeated_line_share", "mean_word_length", "longest_word", "symbol_word_ratio",
    "gopher_words", "gopher_mean_word_length", "hash_word_ratio", "ellipsis_word_ratio", "bullet_line_share",
    "ellipsis_line_share", "alphabetic_word_share", "stop_words",
    "duplicate_line_share", "duplicate_line_character_share", "duplicate_paragraph_share",
    "duplicate_paragraph_character_share",
    "top_2gram_share", "top_3gram_share", "top_4gram_share",
    "duplicate_5gram_share", "duplicate_6gram_share", "duplicate_7gram_share", "duplicate_8gram_share",
    "duplicate_9gram_share", "duplicate_10gram_share",
    "fineweb_punctuated_line_share", "fineweb_short_line_share", "fineweb_duplicate_line_character_share",
    "fineweb_newline_word_ratio",
    "dclm_stop_word_count", "dclm_repeated_line_share", "dclm_repeated_line_character_share",
    "dclm_repeated_paragraph_share", "dclm_repeated_paragraph_character_share", "dclm_top_2gram_share",
    "dclm_top_3gram_share", "dclm_top_4gram_share", "dclm_repeated_5gram_share", "dclm_repeated_6gram_share",
    "dclm_repeated_7gram_share", "dclm_repeated_8gram_share", "dclm_repeated_9gram_share", "dclm_repeated_10gram_share",
};

// The families of scores that a caller may leave out.
enum Family : unsigned { kProse = 1, kGopher = 2, kRepetition = 4, kFineweb = 8, kDclm = 16 };

class NgramTables;

// Measures one text after another with the memory of the last.
class Scorer {
 public:
  Scorer();
  ~Scorer();
  // Writes kScores numbers; NaN where a score is not measured: families left out, ratios of nothing, and all that
  // counts words in scripts that do not part them.
  void measure(std::string_view text, unsigned families, double* scores);

 private:
  void prose(double* scores) const;
  void gopher(double* scores) const;
  void fineweb(double* scores);
  void repetition(double* scores);
  void dclm(double* scores);
  void dclm_ngrams(double* scores);
  struct Repeats {
    std::size_t segments = 0, characters = 0;
    std::size_t later = 0, later_characters = 0;  // after the first of equals
    std::size_t all = 0, all_characters = 0;      // with the first
  };
  Repeats repeats(const std::vector<Range>& segments);
  std::vector<Range> split(Range range, std::size_t newlines, bool keep_empty) const;

  Characters text_;
  bool spaceless_ = false;
  std::unique_ptr<NgramTables> tables_;
};

}  // namespace seedbed::text

// Cleaning by lines: what C4, FineWeb and DCLM-Baseline drop from a page before they judge what is left.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "text/characters.hpp"

namespace seedbed::text {

enum class LineStyle {
  C4,       // lines that end as sentences, of three words or more, without boilerplate (Raffel et al. 2020, section 2.2)
  Fineweb,  // the same, whatever lines end with (Penedo et al. 2024, section 3.6)
  Dclm,     // no shouting, no counters, no lines of one word (Li et al. 2024, appendix K)
};

struct Cleaned {
  std::string text;
  double sentences = 0;           // of C4 and FineWeb
  double lorem_ipsum = 0;         // lines that hold the words
  double curly_brackets = 0;      // lines that hold one
  double removed_word_share = 0;  // words that went / words, punctuation aside
  double dropped_lines = 0;
};

class LineCleaner {
 public:
  Cleaned clean(std::string_view text, LineStyle style);

 private:
  void clean_c4(Range line, bool terminal, Cleaned& out);
  void clean_dclm(Range line, Cleaned& out);
  std::size_t words(Range range, std::size_t* longest) const;
  Characters text_;
  std::u32string line_;   // a line under way
  std::string lower_;     // its ASCII in lower case, other characters as one byte each
};

}  // namespace seedbed::text

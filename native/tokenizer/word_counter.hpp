// Counts the words of texts over several calls, in bounded memory: what no longer fits is sorted and written to a file,
// and the files are merged at the end. The counts depend neither on the number of threads nor on the memory.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/word_counts.hpp"
#include "tokenizer/word_source.hpp"
#include "tokenizer/word_table.hpp"

namespace seedbed::tokenizer {

class WordCounter {
 public:
  // memory_bytes: of all tables together; past it words go to files without a name in `directory`.
  WordCounter(std::shared_ptr<const WordSource> source, unsigned threads, std::uint64_t memory_bytes,
              std::string directory);
  WordCounter(const WordCounter&) = delete;
  WordCounter& operator=(const WordCounter&) = delete;
  void add(const std::vector<std::string_view>& texts);
  WordCounts take();  // the counts so far; the counter starts anew
  std::uint64_t skipped() const;  // words that were longer than kLongestWord, which are left out
  std::uint64_t spilled() const;  // files written so far

 private:
  struct Part {  // one thread's
    WordTable table;
    std::vector<WordCounts> runs;
    std::uint64_t skipped = 0, spilled = 0;
  };
  void spill(Part& part) const;

  std::shared_ptr<const WordSource> source_;
  std::vector<Part> parts_;
  std::uint64_t memory_bytes_;
  std::string directory_;
};

}  // namespace seedbed::tokenizer

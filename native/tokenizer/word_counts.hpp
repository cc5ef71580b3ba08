// How often each word occurs in a text: all that training needs to know of it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/word_source.hpp"

namespace seedbed::tokenizer {

// A hash map from words to counts whose keys lie one behind another in one block of memory.
class WordCounts {
 public:
  WordCounts();
  void add(std::string_view word, std::uint64_t count = 1);
  void merge(const WordCounts& other);
  std::size_t size() const { return words_.size(); }
  std::string_view word(std::size_t i) const { return {bytes_.data() + words_[i].start, words_[i].length}; }
  std::uint64_t count(std::size_t i) const { return words_[i].count; }
  std::size_t bytes() const { return bytes_.size(); }  // of all words together

 private:
  struct Word {
    std::uint64_t start, hash, count;
    std::uint32_t length;
  };
  void grow();

  std::string bytes_;
  std::vector<Word> words_;
  std::vector<std::uint32_t> slots_;  // index into words_ plus one; 0 is empty
};

// Counts the words of texts over several calls. The counts do not depend on `threads`.
class WordCounter {
 public:
  // Longer ones are no words (a blob without a space): they are left out and counted in skipped().
  static constexpr std::size_t kLongestWord = std::size_t{1} << 20;

  WordCounter(std::shared_ptr<const WordSource> source, unsigned threads);
  void add(const std::vector<std::string_view>& texts);
  WordCounts take();  // the counts of all threads in one; the counter starts anew
  std::uint64_t skipped() const;

 private:
  struct Part {
    WordCounts counts;
    std::uint64_t skipped = 0;
  };
  void count(std::string_view text, Part& part) const;

  std::shared_ptr<const WordSource> source_;
  std::vector<Part> parts_;  // one a thread
};

}  // namespace seedbed::tokenizer

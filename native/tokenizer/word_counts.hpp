// How often each word of a corpus occurs: all that training needs to know of it.
//
// The words are sorted by their bytes, so that counts merge in one pass and are a function of the data alone, and are
// packed: each is written as the number of bytes that it shares with the word before it, the number of bytes that
// follow, these bytes, and its count (numbers as LEB128 varints). The packed bytes lie in memory or in a file, and are
// read from front to back; a file may come from anywhere, so every step of the reader is checked.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

// Longer ones are no words (a blob without a space).
constexpr std::size_t kLongestWord = std::size_t{1} << 20;
// All counts of a corpus together: sums of them never overflow.
constexpr std::uint64_t kMostOccurrences = std::uint64_t{1} << 62;

// Where packed words lie.
class PackedBytes {
 public:
  virtual ~PackedBytes() = default;
  // Copies up to `size` bytes from `offset` on; fewer only at the end. Safe to call from several threads.
  virtual std::size_t read(std::uint64_t offset, char* to, std::size_t size) const = 0;
};

class WordCounts {
 public:
  WordCounts() = default;

  // Packed words inside a file, read through once. Throws std::invalid_argument if they are damaged, not sorted, or
  // not `words` words that fill `size` bytes.
  static WordCounts in_file(const std::string& path, std::uint64_t offset, std::uint64_t size, std::uint64_t words);

  std::uint64_t size() const { return size_; }    // words
  std::uint64_t total() const { return total_; }  // occurrences
  std::uint64_t bytes() const { return bytes_; }  // of all different words together
  std::uint64_t packed_bytes() const { return packed_bytes_; }
  std::size_t read_packed(std::uint64_t offset, char* to, std::size_t size) const {
    return packed_ ? packed_->read(offset_ + offset, to, size) : 0;
  }

  // Calls visit(word, count) for each word in order; the view is valid for the call only.
  template <class Visit>
  void for_each(Visit&& visit) const;

 private:
  friend class WordWriter;
  friend class WordReader;
  std::shared_ptr<const PackedBytes> packed_;
  std::uint64_t size_ = 0, total_ = 0, bytes_ = 0, packed_bytes_ = 0;
  std::uint64_t offset_ = 0;  // of the first word in packed_
};

// Reads the words of counts, which must outlive it, from front to back.
class WordReader {
 public:
  explicit WordReader(const WordCounts& counts);
  bool next();  // to the next word; false behind the last
  std::string_view word() const { return word_; }
  std::uint64_t count() const { return count_; }

 private:
  std::uint8_t byte();
  std::uint64_t number(std::uint64_t most);
  [[noreturn]] void damaged(const char* problem) const;

  const WordCounts& counts_;
  std::vector<char> buffer_;
  const char *p_ = nullptr, *end_ = nullptr;  // what is left of the buffer
  std::uint64_t fetched_ = 0, read_ = 0;      // bytes in the buffer so far; words
  std::string word_;
  std::uint64_t count_ = 0;
};

// Packs words, which must come sorted and once each.
class WordWriter {
 public:
  WordWriter();                                        // into memory
  explicit WordWriter(const std::string& directory);  // into a file there that has no name and goes when it is closed
  ~WordWriter();
  void add(std::string_view word, std::uint64_t count);  // throws std::overflow_error past kMostOccurrences
  WordCounts finish();

 private:
  class File;
  void number(std::uint64_t value);
  std::shared_ptr<File> file_;
  std::string packed_, previous_;
  WordCounts counts_;
};

// The sums of counts, without words that occur fewer than `min_count` times; in memory if they take up to
// `memory_bytes`, and else in a file in `directory`.
WordCounts merge_counts(const std::vector<WordCounts>& parts, std::uint64_t min_count, std::uint64_t memory_bytes,
                        const std::string& directory);

template <class Visit>
void WordCounts::for_each(Visit&& visit) const {
  for (WordReader reader(*this); reader.next();) visit(reader.word(), reader.count());
}

}  // namespace seedbed::tokenizer

// Documents as sets of shingles, runs of n words, each a hash of 32 bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace seedbed::text {

// Words are letters, marks and numbers in lower case; all else parts them. A character of a script without spaces is a
// word of its own. A text of fewer than n words, but one, has a single shingle.
class Shingler {
 public:
  explicit Shingler(std::size_t n) : n_(n) {}
  // The shingles in the order of the text, repeated ones as often as they occur; valid until the next call.
  const std::vector<std::uint32_t>& read(std::string_view text);
  // The hashes of the words alone, as read.
  std::span<const std::uint64_t> words() const { return {words_.data(), count_}; }

 private:
  void read_words(std::string_view text);
  void make_room(std::size_t more);
  const char* read_ascii(const char* p, const char* end);
  const char* read_any(const char* p, const char* end);
  std::size_t n_, count_ = 0;
  std::vector<std::uint64_t> words_;  // the first `count_` are of the text
  std::vector<std::uint32_t> shingles_;
};

// Jaccard similarity of sets given as lists that may repeat.
class SetSimilarity {
 public:
  double jaccard(const std::uint32_t* a, std::size_t a_size, const std::uint32_t* b, std::size_t b_size);

 private:
  struct Slot {
    std::uint32_t value, epoch_and_side;
  };
  std::vector<Slot> slots_;
  std::uint32_t epoch_ = 0;
};

}  // namespace seedbed::text

// Counting words in memory: a hash table whose records (count, length, bytes) lie one behind another in one block.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

class WordTable {
 public:
  // Whether the word is new.
  bool add(std::string_view word);

  std::size_t size() const { return size_; }

  // Bytes that it takes, with what sorting will need.
  std::size_t memory() const {
    return records_size_ * sizeof(std::uint64_t) + slots_.size() * sizeof slots_[0] + size_ * sizeof(Key);
  }

  // Calls visit(word, count) for each word, sorted by bytes, and leaves the table empty.
  template <class Visit>
  void drain(Visit&& visit) {
    for (const Key& key : take_sorted()) {
      std::uint64_t count;
      std::memcpy(&count, at(key.record), sizeof count);
      visit(word(key.record), count);
    }
    *this = WordTable();
  }

 private:
  struct Key {
    std::uint64_t start;   // the first bytes of the word, so that most comparisons need no look at it
    std::uint32_t record;  // in units of eight bytes
  };
  struct Free {
    void operator()(char* records) const { std::free(records); }
  };

  char* at(std::uint32_t record) const { return records_.get() + std::size_t{record} * 8; }
  std::string_view word(std::uint32_t record) const {
    std::uint32_t length;
    std::memcpy(&length, at(record) + 8, sizeof length);
    return {at(record) + 12, length};
  }
  std::uint32_t append(std::string_view word);
  void grow();
  std::vector<Key> take_sorted();

  std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(1024);  // hash << 32 | record plus one; 0 is empty
  std::unique_ptr<char, Free> records_;
  std::size_t records_size_ = 0, records_capacity_ = 0, size_ = 0;  // of records: in units of eight bytes
};

}  // namespace seedbed::tokenizer

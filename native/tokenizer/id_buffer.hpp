// Ids under way: a growing array whose new room is not zeroed.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::tokenizer {

class IdBuffer {
 public:
  std::uint32_t* room(std::size_t more) {  // where the next `more` ids go
    if (size_ + more > capacity()) grow(std::max(size_ + more, 2 * capacity() + 64));
    return data() + size_;
  }
  void commit(std::size_t count) { size_ += count; }
  void push(std::uint32_t id) {
    *room(1) = id;
    commit(1);
  }
  void reserve(std::size_t count) {
    if (count > capacity()) grow(count);
  }
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return pages_.bytes() / sizeof(std::uint32_t); }
  std::uint32_t* data() const { return static_cast<std::uint32_t*>(pages_.memory()); }
  std::uint32_t* end() const { return data() + size_; }

 private:
  void grow(std::size_t count) {
    Pages larger(count * sizeof(std::uint32_t));
    std::copy_n(data(), size_, static_cast<std::uint32_t*>(larger.memory()));
    pages_ = std::move(larger);
  }
  Pages pages_;
  std::size_t size_ = 0;
};

}  // namespace seedbed::tokenizer

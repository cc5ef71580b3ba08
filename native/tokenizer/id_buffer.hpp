// Ids under way: a growing array whose new room is not zeroed.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::tokenizer {

class IdBuffer {
 public:
  std::uint32_t* room(std::size_t more) {  // where the next `more` ids go
    if (size_ + more > ids_.size()) grow(more);
    return ids_.data() + size_;
  }
  void commit(std::size_t count) { size_ += count; }
  void push(std::uint32_t id) {
    *room(1) = id;
    commit(1);
  }
  const std::uint32_t* end() const { return ids_.data() + size_; }
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return ids_.size(); }
  const std::uint32_t* data() const { return ids_.data(); }

 private:
  void grow(std::size_t more) {
    PagedArray<std::uint32_t> larger(std::max(size_ + more, 2 * ids_.size() + 64));
    std::copy_n(ids_.data(), size_, larger.data());
    ids_ = std::move(larger);
  }
  PagedArray<std::uint32_t> ids_;
  std::size_t size_ = 0;
};

}  // namespace seedbed::tokenizer

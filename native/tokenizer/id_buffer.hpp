// Ids under way: a growing array whose new room is not zeroed.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace seedbed::tokenizer {

class IdBuffer {
 public:
  std::uint32_t* room(std::size_t more) {  // where the next `more` ids go
    if (size_ + more > capacity_) grow(more);
    return ids_.get() + size_;
  }
  void commit(std::size_t count) { size_ += count; }
  void push(std::uint32_t id) {
    *room(1) = id;
    commit(1);
  }
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  const std::uint32_t* data() const { return ids_.get(); }

 private:
  void grow(std::size_t more) {
    const std::size_t wanted = std::max(size_ + more, capacity_ + capacity_ / 2 + 64);
    auto larger = std::make_unique_for_overwrite<std::uint32_t[]>(wanted);
    std::copy_n(ids_.get(), size_, larger.get());
    ids_ = std::move(larger);
    capacity_ = wanted;
  }
  std::unique_ptr<std::uint32_t[]> ids_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace seedbed::tokenizer

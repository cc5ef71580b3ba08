// Memory for large tables and results: where the system has huge pages to give, few of them hold all of it, so that
// there are few faults when it is first written and few misses when addresses are translated.
#pragma once
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace seedbed::tokenizer {

constexpr std::size_t kHugePage = std::size_t{1} << 21;

// Uninitialised; give it back with free_pages and the same size.
inline void* allocate_pages(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  void* memory = ::operator new(bytes ? bytes : 1, std::align_val_t{alignment});
#if defined(__linux__)
  if (bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);  // advice: it does no harm where it is not taken
#endif
  return memory;
}
inline void free_pages(void* memory, std::size_t bytes) noexcept {
  ::operator delete(memory, std::align_val_t{bytes >= kHugePage ? kHugePage : 64});
}

template <class T>
struct HugePages {  // an allocator for containers
  using value_type = T;
  HugePages() = default;
  template <class Other>
  HugePages(const HugePages<Other>&) noexcept {}
  T* allocate(std::size_t count) {
    if (count > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(allocate_pages(count * sizeof(T)));
  }
  void deallocate(T* memory, std::size_t count) noexcept { free_pages(memory, count * sizeof(T)); }
  friend bool operator==(const HugePages&, const HugePages&) { return true; }
};

// Such memory that is used again: the system clears every page that it gives away, which takes up to a third as long as
// encoding what fills it. Large blocks that were given back wait for the next to ask, up to a fixed size in all.
class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes);  // at least so many, uninitialised
  Pages(Pages&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Pages();
  void* memory() const { return memory_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace seedbed::tokenizer

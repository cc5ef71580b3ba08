// Memory of an index: arrays that are owned and grow, in memory or in a file, or borrowed read-only from a mapped file until
// the first change.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "index/spill.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace seedbed::index {

// 64-byte aligned, without initialisation; large blocks ask for huge pages, since a graph walk misses the TLB at every hop.
template <class T>
class Array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  Array(Array&& other) noexcept { swap(other); }
  Array& operator=(Array&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Array() { release(); }

  void borrow(std::span<const T> view) {
    release();
    view_ = view.data();
    size_ = view.size();
    capacity_ = 0;
  }

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return (owned_ ? capacity_ : size_) * sizeof(T); }
  const T* data() const { return view_; }
  const T& operator[](std::size_t i) const { return view_[i]; }
  std::span<const T> span() const { return {view_, size_}; }

  T* writable() {
    if (!owned_ && size_) reserve(size_);
    return owned_;
  }
  T& at(std::size_t i) { return writable()[i]; }

  // From now on in a file in `folder`; throws as SpillFile does.
  void spill(const std::string& folder) {
    auto file = std::make_unique<SpillFile>(folder);
    T* const fresh = static_cast<T*>(file->grow(std::max<std::size_t>(size_, 1) * sizeof(T)));
    if (size_) std::memcpy(fresh, view_, size_ * sizeof(T));
    release();
    file_ = std::move(file);
    view_ = owned_ = fresh;
    capacity_ = std::max<std::size_t>(size_, 1);
  }
  const SpillFile* file() const { return file_.get(); }

  void reserve(std::size_t wanted) {
    if (owned_ && wanted <= capacity_) return;
    if (file_) {
      view_ = owned_ = static_cast<T*>(file_->grow(wanted * sizeof(T)));
      capacity_ = wanted;
      return;
    }
    constexpr std::size_t huge = std::size_t{2} << 20;
    std::size_t bytes = std::max<std::size_t>(wanted, 1) * sizeof(T);
    const std::size_t alignment = bytes >= 2 * huge ? huge : 64;
    bytes = (bytes + 63) / 64 * 64;
    const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
    T* fresh = static_cast<T*>(std::aligned_alloc(alignment, padded));
    if (!fresh) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == huge) madvise(fresh, padded, MADV_HUGEPAGE);
#endif
    if (size_) std::memcpy(fresh, view_, size_ * sizeof(T));
    std::free(owned_);
    owned_ = fresh;
    view_ = fresh;
    capacity_ = wanted;
  }

  // Exact the first time, by half as much again later: one bulk add wastes nothing, many small ones stay linear.
  void grow(std::size_t wanted) {
    if (owned_ && wanted <= capacity_) return;
    reserve(size_ == 0 ? wanted : std::max(wanted, size_ + size_ / 2));
  }

  void resize(std::size_t wanted, T fill) {
    grow(wanted);
    for (std::size_t i = size_; i < wanted; ++i) owned_[i] = fill;
    size_ = wanted;
  }

  void swap(Array& other) noexcept {
    std::swap(owned_, other.owned_);
    std::swap(file_, other.file_);
    std::swap(view_, other.view_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  void release() {
    if (file_) file_.reset();
    else std::free(owned_);
    owned_ = nullptr;
  }

  T* owned_ = nullptr;
  std::unique_ptr<SpillFile> file_;  // that the owned ones lie in, if any
  const T* view_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

// User ids to slots: open addressing over slot numbers; the ids themselves lie in the index's own array.
class LabelMap {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFu;

  std::uint32_t find(std::int64_t label, const std::int64_t* labels) const {
    if (table_.empty()) return kNone;
    for (std::size_t i = hash(label) & mask();; i = (i + 1) & mask()) {
      if (table_[i] == kNone) return kNone;
      if (table_[i] != kErased && labels[table_[i]] == label) return table_[i];
    }
  }

  void insert(std::int64_t label, std::uint32_t slot, const std::int64_t* labels) {
    if ((used_ + 1) * 10 > table_.size() * 7) rehash(labels, 2 * (count_ + 1));
    place(label, slot);
    ++count_;
  }

  void reserve(std::size_t expected, const std::int64_t* labels) {
    if (expected * 10 > table_.size() * 6) rehash(labels, expected);
  }

  // Before `labels` changes for this slot.
  void erase(std::int64_t label, const std::int64_t* labels) {
    for (std::size_t i = hash(label) & mask();; i = (i + 1) & mask()) {
      if (table_[i] == kNone) return;
      if (table_[i] != kErased && labels[table_[i]] == label) {
        table_[i] = kErased;
        --count_;
        return;
      }
    }
  }

  void clear(std::size_t expected) {
    std::size_t size = 16;
    while (size * 6 < expected * 10) size *= 2;
    table_.assign(size, kNone);
    used_ = count_ = 0;
  }

  std::size_t bytes() const { return table_.capacity() * sizeof(std::uint32_t); }

 private:
  static constexpr std::uint32_t kErased = 0xFFFFFFFEu;

  static std::size_t hash(std::int64_t label) {
    std::uint64_t x = static_cast<std::uint64_t>(label) * 0x9E3779B97F4A7C15ull;
    return static_cast<std::size_t>(x ^ (x >> 29));
  }
  std::size_t mask() const { return table_.size() - 1; }

  void place(std::int64_t label, std::uint32_t slot) {
    std::size_t i = hash(label) & mask();
    while (table_[i] < kErased) i = (i + 1) & mask();
    used_ += table_[i] == kNone;
    table_[i] = slot;
  }

  void rehash(const std::int64_t* labels, std::size_t expected) {
    const std::vector<std::uint32_t> old = std::move(table_);
    const std::size_t count = count_;
    clear(expected);
    for (std::uint32_t slot : old)
      if (slot < kErased) place(labels[slot], slot);
    count_ = count;
  }

  std::vector<std::uint32_t> table_;
  std::size_t used_ = 0, count_ = 0;
};

}  // namespace seedbed::index

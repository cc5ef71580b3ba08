// The pairs that wait to be merged, the most frequent first; of equally frequent ones the smaller pair.
//
// Counts only matter in order, and the best count falls from merge to merge. So only the pairs that are as frequent as
// the best, or very frequent, lie in a heap; the many rare ones wait in a list for each count, unordered, until their
// turn comes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tokenizer/pair_map.hpp"

namespace seedbed::tokenizer {

// The words that hold a pair, ascending. Most pairs are rare: up to two need no memory of their own.
class Places {
 public:
  Places() = default;
  explicit Places(std::uint32_t size) : size_(size) {
    if (size > 2) many_ = new std::uint32_t[size];
  }
  Places(Places&& other) noexcept { swap(other); }
  Places& operator=(Places&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Places() {
    if (size_ > 2) delete[] many_;
  }
  std::uint32_t* begin() { return size_ > 2 ? many_ : few_; }
  std::uint32_t* end() { return begin() + size_; }
  std::uint32_t size() const { return size_; }

 private:
  void swap(Places& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(both_, other.both_);
  }
  std::uint32_t size_ = 0;
  union {
    std::uint64_t both_ = 0;
    std::uint32_t few_[2];
    std::uint32_t* many_;
  };
};

struct Candidate {
  Pair pair;
  Places places;
};

class PairQueue {
 public:
  void push(std::uint64_t count, Candidate candidate) {
    if (count < level_) {
      if (waiting_.size() <= count) waiting_.resize(count + 1);
      waiting_[count].push_back(std::move(candidate));
    } else {
      heap_.push_back({count, std::move(candidate)});
      std::push_heap(heap_.begin(), heap_.end(), worse);
    }
  }

  // Takes the best whose count is at least `least` (1 or more); false if there is none.
  bool pop(std::uint64_t least, std::uint64_t& count, Candidate& candidate) {
    while (heap_.empty()) {
      if (level_ <= least) return false;
      if (--level_ >= waiting_.size()) continue;
      for (Candidate& one : waiting_[level_]) heap_.push_back({level_, std::move(one)});
      waiting_.pop_back();
      std::make_heap(heap_.begin(), heap_.end(), worse);
    }
    if (heap_.front().count < least) return false;
    std::pop_heap(heap_.begin(), heap_.end(), worse);
    count = heap_.back().count;
    candidate = std::move(heap_.back().candidate);
    heap_.pop_back();
    return true;
  }

 private:
  struct Entry {
    std::uint64_t count;
    Candidate candidate;
  };
  static bool worse(const Entry& a, const Entry& b) {
    return a.count != b.count ? a.count < b.count : a.candidate.pair > b.candidate.pair;
  }

  std::uint64_t level_ = 4096;  // all in the heap have this count at least
  std::vector<Entry> heap_;
  std::vector<std::vector<Candidate>> waiting_;  // by count, below level_
};

}  // namespace seedbed::tokenizer

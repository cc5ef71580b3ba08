// The best of many scored candidates, kept in no order until the end: cheaper than a heap where most are refused.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace seedbed::index {

struct Candidate {
  float score;  // larger is better, never NaN
  std::uint32_t list, position;
};

class Best {
 public:
  void start(std::size_t keep) {
    keep_ = std::max<std::size_t>(1, keep);
    pool_.clear();
    least_ = -std::numeric_limits<float>::infinity();
  }
  // Only scores above it can still be among the best.
  float least() const { return least_; }
  void push(Candidate one) {
    pool_.push_back(one);
    if (pool_.size() >= 2 * keep_ + 64) shrink();
  }
  // The best, in no order; among equal scores those that came first.
  std::vector<Candidate>& finish() {
    shrink();
    return pool_;
  }

 private:
  static bool better(const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.list != b.list ? a.list < b.list : a.position < b.position;
  }
  void shrink() {
    if (pool_.size() <= keep_) return;
    const auto edge = pool_.begin() + static_cast<std::ptrdiff_t>(keep_ - 1);
    std::nth_element(pool_.begin(), edge, pool_.end(), better);
    least_ = edge->score;
    pool_.resize(keep_);
  }

  std::vector<Candidate> pool_;
  std::size_t keep_ = 1;
  float least_ = -std::numeric_limits<float>::infinity();
};

}  // namespace seedbed::index

// The best of many scored candidates, kept in no order until the end: cheaper than a heap where most are refused.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
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
  // Only scores are sorted; one pass then keeps what lies above the edge and, of those on it, the first.
  void shrink() {
    if (pool_.size() <= keep_) return;
    scores_.clear();
    for (const Candidate& one : pool_) scores_.push_back(one.score);
    const auto edge = scores_.begin() + static_cast<std::ptrdiff_t>(keep_ - 1);
    std::nth_element(scores_.begin(), edge, scores_.end(), std::greater<>());
    least_ = *edge;
    auto on_edge = static_cast<std::size_t>(std::count(scores_.begin(), edge + 1, least_));
    std::size_t kept = 0;
    for (const Candidate& one : pool_) {
      const bool stays = one.score > least_ || (one.score == least_ && on_edge > 0);
      on_edge -= one.score == least_ && on_edge > 0;
      pool_[kept] = one;
      kept += stays;
    }
    pool_.resize(keep_);
  }

  std::vector<Candidate> pool_;
  std::vector<float> scores_;
  std::size_t keep_ = 1;
  float least_ = -std::numeric_limits<float>::infinity();
};

}  // namespace seedbed::index

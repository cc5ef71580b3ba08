// Exact scores of vectors that lie anywhere in memory: while some are measured, the next ones are on their way.
#pragma once
#include <cstddef>
#include <limits>

#include "simd/distance.hpp"

namespace seedbed::index {

struct ExactScore {  // larger is better: the inner product, or minus the squared distance
  explicit ExactScore(bool l2)
      : kernel(l2 ? simd::l2_kernel(simd::level()) : simd::dot_kernel(simd::level())), sign(l2 ? -1.0f : 1.0f) {}

  // Calls set(i, score) for i in [0, count), row(i) being the padded vector.
  template <class Row, class Set>
  void each(const float* query, std::size_t padded_dim, std::size_t count, const Row& row, const Set& set) const {
    constexpr std::size_t ahead = 4;
    const auto fetch = [&](std::size_t i) {
      if (i >= count) return;
      const char* line = reinterpret_cast<const char*>(row(i));
      for (std::size_t byte = 0; byte < padded_dim * sizeof(float); byte += 64) __builtin_prefetch(line + byte);
    };
    const auto checked = [&](float value) {  // no NaN of a hostile file may reach a sort
      const float score = sign * value;
      return score == score ? score : -std::numeric_limits<float>::infinity();
    };
    for (std::size_t i = 0; i < ahead; ++i) fetch(i);
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
      const float* four[4];
      for (std::size_t j = 0; j < 4; ++j) {
        fetch(i + j + ahead);
        four[j] = row(i + j);
      }
      float values[4];
      kernel.four(query, four, padded_dim, values);
      for (std::size_t j = 0; j < 4; ++j) set(i + j, checked(values[j]));
    }
    for (; i < count; ++i) set(i, checked(kernel.one(query, row(i), padded_dim)));
  }

  simd::DistanceKernel kernel;
  float sign;
};

}  // namespace seedbed::index

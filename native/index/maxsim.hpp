// Late interaction (Khattab & Zaharia, SIGIR 2020): score(q, d) = sum over the tokens of q of the largest inner product
// with a token of d.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "simd/maxsim.hpp"

namespace seedbed::index {

// A query's tokens, component by component in panels of 32, the last one only as wide as it must be: packed once, compared
// with many documents.
class PackedQuery {
 public:
  void pack(const float* tokens, std::size_t count, std::size_t dim);

  // `row(i)` points to token i of the document, and stays valid until eight more have been asked for; `address(i)` is where
  // what it is made of lies, whether there is such a token or not. -infinity where the
  // document or the query has no token; NaN where a document's token holds NaN, infinity or numbers too large to compare.
  template <class Row, class Address>
  float score(std::size_t tokens, const simd::MaxSimKernel& kernel, const Row& row, const Address& address) {
    if (tokens == 0 || count_ == 0) return -std::numeric_limits<float>::infinity();
    best_.assign(padded_, -std::numeric_limits<float>::infinity());
    float spoiled[simd::kMaxSimStep] = {};
    for (std::size_t first = 0; first < tokens; first += simd::kMaxSimRows) {
      const float* rows[simd::kMaxSimRows];
      const std::size_t here = tokens - first < simd::kMaxSimRows ? tokens - first : simd::kMaxSimRows;
      for (std::size_t r = 0; r < here; ++r) rows[r] = row(first + r);
      for (std::size_t r = here; r < simd::kMaxSimRows; ++r) rows[r] = rows[0];  // a token twice changes no maximum
      for (std::size_t left = 0; left < padded_; left += simd::kMaxSimColumns)
        kernel.keep_largest(rows, columns_.data() + left * dim_, width(left), dim_, address(first + simd::kMaxSimRows),
                            best_.data() + left, spoiled);
    }
    double sum = 0;
    for (std::size_t c = 0; c < count_; ++c) sum += best_[c];
    for (float nothing : spoiled) sum += nothing;
    return static_cast<float>(sum);
  }

 private:
  std::size_t width(std::size_t left) const {
    return padded_ - left < simd::kMaxSimColumns ? padded_ - left : simd::kMaxSimColumns;
  }

  std::size_t count_ = 0, padded_ = 0, dim_ = 0;
  std::vector<float> columns_, best_;
};

// Tokens of one document, row after row: float32, or IEEE half by their bits.
template <class T>
struct Rows {
  const T* data;
  std::size_t count;
};

// Scores (queries, documents) of all with all; the queries lie token by token, cut by offsets. Throws std::invalid_argument
// where a document that is compared holds NaN or infinity.
template <class T>
void maxsim(const float* queries, const std::int64_t* query_offsets, std::size_t query_count,
            std::span<const Rows<T>> documents, std::size_t dim, std::size_t threads, float* scores);

}  // namespace seedbed::index

// Late interaction (Khattab & Zaharia, SIGIR 2020): score(q, d) = sum over the tokens of q of the largest inner product
// with a token of d.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "simd/maxsim.hpp"

namespace seedbed::index {

// A query's tokens, component by component in panels of 32: packed once, compared with many documents.
class PackedQuery {
 public:
  void pack(const float* tokens, std::size_t count, std::size_t dim);

  // `row(i)` points to token i of the document, and stays valid until eight more have been asked for. -infinity where the
  // document or the query has no token.
  template <class Row>
  float score(std::size_t tokens, const simd::MaxSimKernel& kernel, const Row& row) {
    if (tokens == 0 || count_ == 0) return -std::numeric_limits<float>::infinity();
    best_.assign(panels() * simd::kMaxSimColumns, -std::numeric_limits<float>::infinity());
    for (std::size_t first = 0; first < tokens; first += simd::kMaxSimRows) {
      const float* rows[simd::kMaxSimRows];
      const std::size_t here = tokens - first < simd::kMaxSimRows ? tokens - first : simd::kMaxSimRows;
      for (std::size_t r = 0; r < here; ++r) rows[r] = row(first + r);
      for (std::size_t r = here; r < simd::kMaxSimRows; ++r) rows[r] = rows[0];  // a token twice changes no maximum
      for (std::size_t panel = 0; panel < panels(); ++panel)
        kernel.keep_largest(rows, columns_.data() + panel * simd::kMaxSimColumns * dim_, dim_,
                            best_.data() + panel * simd::kMaxSimColumns);
    }
    double sum = 0;
    for (std::size_t c = 0; c < count_; ++c) sum += best_[c];
    return static_cast<float>(sum);
  }

 private:
  std::size_t panels() const { return (count_ + simd::kMaxSimColumns - 1) / simd::kMaxSimColumns; }

  std::size_t count_ = 0, dim_ = 0;
  std::vector<float> columns_, best_;
};

// Scores (queries, documents) of all with all; both lie token by token, cut by offsets. Of the two kinds of documents, float32
// and IEEE half, the one that is not null counts. Throws std::invalid_argument where a document holds NaN or infinity.
struct Documents {
  const float* floats;
  const std::uint16_t* halves;
  const std::int64_t* offsets;
  std::size_t count;
};
void maxsim(const float* queries, const std::int64_t* query_offsets, std::size_t query_count, const Documents& documents,
            std::size_t dim, std::size_t threads, float* scores);

}  // namespace seedbed::index

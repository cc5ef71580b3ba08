#include "index/maxsim.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "index/parallel.hpp"

namespace seedbed::index {

void PackedQuery::pack(const float* tokens, std::size_t count, std::size_t dim) {
  count_ = count;
  padded_ = (count + simd::kMaxSimStep - 1) / simd::kMaxSimStep * simd::kMaxSimStep;
  dim_ = dim;
  columns_.assign(padded_ * dim, 0.0f);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t left = i / simd::kMaxSimColumns * simd::kMaxSimColumns, wide = width(left);
    float* out = columns_.data() + left * dim + (i - left);
    for (std::size_t d = 0; d < dim; ++d) out[d * wide] = tokens[i * dim + d];
  }
}

template <class T>
void maxsim(const float* queries, const std::int64_t* query_offsets, std::size_t query_count,
            std::span<const Rows<T>> documents, std::size_t dim, std::size_t threads, float* scores) {
  const simd::MaxSimKernel kernel = simd::maxsim_kernel(simd::level());
  // Documents that stay in the cache while all queries are compared with them.
  constexpr std::size_t kTogether = 4;
  std::vector<PackedQuery> packed(query_count);
  for (std::size_t q = 0; q < query_count; ++q)
    packed[q].pack(queries + static_cast<std::size_t>(query_offsets[q]) * dim,
                   static_cast<std::size_t>(query_offsets[q + 1] - query_offsets[q]), dim);
  struct Space {
    std::vector<PackedQuery> queries;
    std::vector<float> wide;  // the eight tokens that are being compared
  };
  std::vector<Space> spaces(std::max<std::size_t>(1, threads));
  const auto compared = [&](PackedQuery& query, const Rows<T>& document, std::vector<float>& wide) {
    const auto row = [&](std::size_t i) -> const float* {
      if constexpr (std::is_same_v<T, float>) {
        return document.data + i * dim;
      } else {
        float* const out = wide.data() + i % simd::kMaxSimRows * dim;
        kernel.widen(document.data + i * dim, dim, out);
        return out;
      }
    };
    return query.score(document.count, kernel, row, [&](std::size_t i) { return document.data + i * dim; });
  };
  parallel_for((documents.size() + kTogether - 1) / kTogether, threads, [&](std::size_t worker, std::size_t group) {
    Space& space = spaces[worker];
    if (space.queries.empty()) {
      space.queries = packed;
      space.wide.resize(simd::kMaxSimRows * dim);
    }
    const std::size_t first = group * kTogether, last = std::min(first + kTogether, documents.size());
    for (std::size_t q = 0; q < query_count; ++q)
      for (std::size_t d = first; d < last; ++d) {
        const float score = compared(space.queries[q], documents[d], space.wide);
        if (std::isnan(score))
          throw std::invalid_argument("the documents hold NaN, infinity or numbers too large to compare in float32");
        scores[q * documents.size() + d] = score;
      }
  });
}

template void maxsim(const float*, const std::int64_t*, std::size_t, std::span<const Rows<float>>, std::size_t, std::size_t,
                     float*);
template void maxsim(const float*, const std::int64_t*, std::size_t, std::span<const Rows<std::uint16_t>>, std::size_t,
                     std::size_t, float*);

}  // namespace seedbed::index

#include "index/maxsim.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "index/parallel.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

void PackedQuery::pack(const float* tokens, std::size_t count, std::size_t dim) {
  count_ = count;
  dim_ = dim;
  columns_.assign(panels() * simd::kMaxSimColumns * dim, 0.0f);
  for (std::size_t i = 0; i < count; ++i) {
    float* out = columns_.data() + i / simd::kMaxSimColumns * simd::kMaxSimColumns * dim + i % simd::kMaxSimColumns;
    for (std::size_t d = 0; d < dim; ++d) out[d * simd::kMaxSimColumns] = tokens[i * dim + d];
  }
}

namespace {

// Of numbers whose squares float32 can hold.
bool finite(const float* values, std::size_t count, const simd::DistanceKernel& kernel) {
  const std::size_t whole = count / simd::kLane * simd::kLane;
  float sum = kernel.one(values, values, whole);
  for (std::size_t i = whole; i < count; ++i) sum += values[i] * values[i];
  return std::isfinite(sum);
}

}  // namespace

void maxsim(const float* queries, const std::int64_t* query_offsets, std::size_t query_count, const Documents& documents,
            std::size_t dim, std::size_t threads, float* scores) {
  const simd::MaxSimKernel kernel = simd::maxsim_kernel(simd::level());
  const simd::DistanceKernel dot = simd::dot_kernel(simd::level());
  // Documents that stay in the cache while they are looked at and all queries are compared with them.
  constexpr std::size_t kTogether = 4;
  std::vector<PackedQuery> packed(query_count);
  for (std::size_t q = 0; q < query_count; ++q)
    packed[q].pack(queries + static_cast<std::size_t>(query_offsets[q]) * dim,
                   static_cast<std::size_t>(query_offsets[q + 1] - query_offsets[q]), dim);
  struct Space {
    std::vector<PackedQuery> queries;
    std::vector<float> wide;
  };
  std::vector<Space> spaces(std::max<std::size_t>(1, threads));
  parallel_for((documents.count + kTogether - 1) / kTogether, threads, [&](std::size_t worker, std::size_t group) {
    Space& space = spaces[worker];
    if (space.queries.empty()) space.queries = packed;
    const std::size_t first = group * kTogether, last = std::min(first + kTogether, documents.count);
    const auto begin = static_cast<std::size_t>(documents.offsets[first]), end = static_cast<std::size_t>(documents.offsets[last]);
    const float* tokens = documents.floats + (documents.floats ? begin * dim : 0);
    if (documents.halves) {
      space.wide.resize((end - begin) * dim);
      kernel.widen(documents.halves + begin * dim, (end - begin) * dim, space.wide.data());
      tokens = space.wide.data();
    }
    if (!finite(tokens, (end - begin) * dim, dot))
      throw std::invalid_argument("the documents hold NaN, infinity or numbers too large to compare in float32");
    for (std::size_t q = 0; q < query_count; ++q)
      for (std::size_t d = first; d < last; ++d) {
        const auto start = static_cast<std::size_t>(documents.offsets[d]);
        const float* rows = tokens + (start - begin) * dim;
        scores[q * documents.count + d] = space.queries[q].score(static_cast<std::size_t>(documents.offsets[d + 1]) - start, kernel,
                                                                 [&](std::size_t i) { return rows + i * dim; });
      }
  });
}

}  // namespace seedbed::index

// Near-duplicates: candidates by locality-sensitive hashing of MinHash signatures, verified by Jaccard similarity.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace seedbed::text {

// The documents: `hashes` minima each, and their shingles from offsets[i] to offsets[i + 1].
struct Signatures {
  const std::uint32_t* minima;
  std::size_t documents, hashes;
  const std::uint32_t* shingles;
  const std::int64_t* offsets;

  std::size_t shingle_count(std::size_t i) const { return static_cast<std::size_t>(offsets[i + 1] - offsets[i]); }
};

struct Clusters {
  std::vector<std::int64_t> first;  // of each document's cluster the member that comes first
  std::uint64_t candidates = 0, verified = 0, similar = 0;  // pairs
};

// Documents whose `rows` minima of one of `bands` bands are equal are candidates; those of Jaccard similarity
// >= threshold belong together, and so does what they are linked to. The same whatever the number of threads: a pair is
// passed over only where it is linked already. In buckets of more than kLargeBucket documents each meets only the
// first few and its neighbours in order.
Clusters near_duplicates(const Signatures& signatures, std::size_t bands, std::size_t rows, double threshold,
                         unsigned threads);

// hashes x 2 numbers: odd multipliers and addends, padded with repeats of the last to a multiple of simd::kHashLane.
struct Permutations {
  Permutations(std::size_t hashes, std::uint64_t seed);
  std::vector<std::uint32_t> multipliers, addends;
};

}  // namespace seedbed::text

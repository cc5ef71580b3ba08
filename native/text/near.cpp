// MinHash: Broder 1997, with linear permutations (Broder et al. 2000). Bands and rows: Leskovec et al., "Mining of
// Massive Datasets", section 3.4.
#include "text/near.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <unordered_set>

#include "simd/minhash.hpp"
#include "text/characters.hpp"
#include "text/shingles.hpp"
#include "tokenizer/parallel.hpp"

namespace seedbed::text {
namespace {

constexpr std::size_t kLargeBucket = 2048, kMeets = 64;
// Signatures that agree in fewer places than this below the threshold are not worth a look at the sets: with a hundred
// minima it is more than five standard deviations.
constexpr double kMargin = 0.22;
constexpr std::size_t kEnoughHashes = 64;

class UnionFind {
 public:
  explicit UnionFind(std::size_t size) : parents_(size) { std::iota(parents_.begin(), parents_.end(), 0u); }
  std::uint32_t root(std::uint32_t i) {
    while (parents_[i] != i) i = parents_[i] = parents_[parents_[i]];
    return i;
  }
  // The smaller root stays, so that a cluster's root is its first member.
  void join(std::uint32_t a, std::uint32_t b) {
    a = root(a), b = root(b);
    parents_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::uint32_t> parents_;
};

struct Entry {
  std::uint64_t key;
  std::uint32_t document;
  bool operator<(const Entry& other) const { return key != other.key ? key < other.key : document < other.document; }
};

class Finder {
 public:
  Finder(const Signatures& signatures, std::size_t bands, std::size_t rows, double threshold)
      : signatures_(signatures), bands_(bands), rows_(rows), threshold_(threshold), clusters_(signatures.documents) {
    if (signatures.hashes >= kEnoughHashes)
      least_equal_ = static_cast<std::size_t>(std::max(0.0, threshold - kMargin) * static_cast<double>(signatures.hashes));
  }

  Clusters run(unsigned threads) {
    tokenizer::parallel_for(bands_, threads, [&](unsigned, std::size_t band) { search(band); });
    found_.first.resize(signatures_.documents);
    for (std::uint32_t i = 0; i < signatures_.documents; ++i) found_.first[i] = clusters_.root(i);
    found_.candidates = candidates_;
    found_.verified = verified_;
    found_.similar = similar_;
    return std::move(found_);
  }

 private:
  void search(std::size_t band) {
    std::vector<Entry> entries;
    entries.reserve(signatures_.documents);
    for (std::uint32_t i = 0; i < signatures_.documents; ++i) {
      if (!signatures_.shingle_count(i)) continue;
      const std::uint32_t* minima = signatures_.minima + i * signatures_.hashes + band * rows_;
      std::uint64_t key = rows_;
      for (std::size_t k = 0; k < rows_; ++k) key = mix(key, minima[k]);
      entries.push_back({key, i});
    }
    std::sort(entries.begin(), entries.end());
    SetSimilarity similarity;
    std::unordered_set<std::uint64_t> different;
    for (std::size_t from = 0, to; from < entries.size(); from = to) {
      to = from + 1;
      while (to < entries.size() && entries[to].key == entries[from].key) ++to;
      const bool large = to - from > kLargeBucket;
      for (std::size_t j = from + 1; j < to; ++j)
        for (std::size_t i = from; i < j; ++i)
          if (!large || i < from + kMeets || j - i <= kMeets)
            meet(entries[i].document, entries[j].document, similarity, different);
    }
  }

  void meet(std::uint32_t a, std::uint32_t b, SetSimilarity& similarity, std::unordered_set<std::uint64_t>& different) {
    {
      const std::lock_guard lock(mutex_);
      if (clusters_.root(a) == clusters_.root(b)) return;
    }
    candidates_.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t pair = std::uint64_t{a} << 32 | b;
    if (!agree(a, b) || different.contains(pair)) return;
    verified_.fetch_add(1, std::memory_order_relaxed);
    const double found =
        similarity.jaccard(signatures_.shingles + signatures_.offsets[a], signatures_.shingle_count(a),
                           signatures_.shingles + signatures_.offsets[b], signatures_.shingle_count(b));
    if (found >= threshold_) {
      const std::lock_guard lock(mutex_);
      similar_.fetch_add(1, std::memory_order_relaxed);
      clusters_.join(a, b);
    } else if (different.size() < (std::size_t{1} << 20)) {
      different.insert(pair);
    }
  }

  bool agree(std::uint32_t a, std::uint32_t b) const {
    const std::uint32_t *first = signatures_.minima + a * signatures_.hashes,
                        *second = signatures_.minima + b * signatures_.hashes;
    std::size_t equal = 0;
    for (std::size_t k = 0; k < signatures_.hashes; ++k) equal += first[k] == second[k];
    return equal >= least_equal_;
  }

  const Signatures& signatures_;
  std::size_t bands_, rows_, least_equal_ = 0;
  double threshold_;
  UnionFind clusters_;
  std::mutex mutex_;
  std::atomic<std::uint64_t> candidates_ = 0, verified_ = 0, similar_ = 0;
  Clusters found_;
};

}  // namespace

Clusters near_duplicates(const Signatures& signatures, std::size_t bands, std::size_t rows, double threshold,
                         unsigned threads) {
  return Finder(signatures, bands, rows, threshold).run(threads);
}

Permutations::Permutations(std::size_t hashes, std::uint64_t seed) {
  std::uint64_t state = mix(seed, 0xA0761D6478BD642Fu);
  const auto next = [&] { return static_cast<std::uint32_t>((state = mix(state, 0xE7037ED1A0B428DBu)) >> 32); };
  for (std::size_t k = 0; k < hashes; ++k) {
    multipliers.push_back(next() | 1);
    addends.push_back(next());
  }
  while (multipliers.size() % simd::kHashLane) {
    multipliers.push_back(multipliers.back());
    addends.push_back(addends.back());
  }
}

}  // namespace seedbed::text

// An inverted index scored by BM25 in Lucene's variant (Kamphuis et al., ECIR 2020, table 1, without the
// constant factor k1 + 1 that Lucene 8 dropped):
//
//   score(q, d) = sum over t in q of idf(t) * tf / (tf + k1 * (1 - b + b * |d| / average |d|)),
//   idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))
//
// Terms are numbers; the vocabulary lies with the caller. Postings of a loaded or compacted index lie in flat
// arrays, those of later documents in a list per term. Removed documents leave the statistics at once and the
// postings when a fifth of them is gone, so that every score is that of an index built anew.
#pragma once
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <vector>

#include "index/storage.hpp"

namespace seedbed::index {

struct Bm25State {
  std::span<const std::int64_t> labels;          // (documents,)
  std::span<const std::uint64_t> term_offsets;   // (terms + 1,)
  std::span<const std::uint32_t> documents;      // (postings,) ascending within a term
  std::span<const std::uint32_t> counts;         // (postings,)
};

class Bm25 {
 public:
  Bm25(double k1, double b) : k1_(k1), b_(b) {}

  // Document i has terms[offsets[i] .. offsets[i + 1]). Throws std::invalid_argument on an id that is there or twice.
  void add(const std::uint32_t* terms, const std::int64_t* offsets, const std::int64_t* ids, std::size_t count,
           std::size_t vocabulary);
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) scores and ids; padded with -infinity and -1. Documents without any query term are left out.
  void search(const std::uint32_t* terms, const std::int64_t* offsets, std::size_t count, std::size_t k,
              const std::vector<std::int64_t>* allowed, std::size_t threads, float* scores, std::int64_t* ids) const;

  void restore(const Bm25State& state);
  Bm25State compacted_state();  // after moving everything into the flat arrays
  std::size_t size() const;
  std::size_t memory_bytes() const;

 private:
  struct Posting {
    std::uint32_t document, count;
  };

  void compact();
  void count_documents();
  template <class Visit>
  void each_posting(std::uint32_t term, const Visit& visit) const;

  double k1_, b_;
  Array<std::int64_t> labels_;
  Array<std::uint64_t> term_offsets_;
  Array<std::uint32_t> documents_, counts_;
  std::vector<std::vector<Posting>> recent_;  // by term
  std::vector<std::uint32_t> frequency_;      // by term: live documents that hold it
  std::vector<std::uint32_t> lengths_;        // by document
  std::vector<std::uint8_t> removed_;
  // By document: its distinct terms, for taking it out of the statistics.
  std::vector<std::uint64_t> own_offsets_ = {0};
  std::vector<std::uint32_t> own_terms_;
  LabelMap map_;
  std::uint64_t total_length_ = 0;
  std::size_t live_ = 0;
  mutable std::shared_mutex access_;
  mutable std::mutex turnstile_;
};

}  // namespace seedbed::index

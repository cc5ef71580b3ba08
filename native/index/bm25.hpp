// An inverted index scored by BM25 in the five variants of Kamphuis et al. ("Which BM25 do you mean?", ECIR 2020,
// table 1). Each of them is, for the terms t of a query,
//
//   score(q, d) = sum of weight(t) * tf / (tf + saturation * (1 - b + b * |d| / average |d|))  +  base(q)
//
// where the variant decides the weight, the saturation and the base, which no document changes:
//
//   variant    idf, N documents and df holders                 weight                        saturation  base, summed over t
//   lucene     ln(1 + (N - df + 1/2) / (df + 1/2))             idf                           k1          0
//   robertson  max(0, ln((N - df + 1/2) / (df + 1/2)))         idf                           k1          0
//   atire      ln(N / df)                                      idf (k1 + 1)                  k1          0
//   bm25+      ln((N + 1) / df)                                idf (k1 + 1)                  k1          idf delta
//   bm25l      ln((N + 1) / (df + 1/2))                        idf (k1 + 1) k1 / (k1+delta)  k1 + delta  idf (k1+1) delta / (k1+delta)
//
//   learned    -                                           the query's own               -           0
//
// (bm25l's f(c + delta) - f(delta) with f(x) = (k1 + 1) x / (k1 + x) is that fraction.) "learned" are weights that a model gave
// (SPLADE, Formal et al. 2021): in place of the fraction stands the document's own weight of the term, kept as the bits of a
// float32 where the others keep a count. Terms are numbers; the vocabulary lies with the caller. Postings lie in flat arrays, those of the latest documents in a list per term until they are a
// quarter of all. Removed documents leave the statistics at once and the postings when a fifth of them is gone, so that
// every score is that of an index built anew.
#pragma once
#include <bit>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <vector>

#include "index/storage.hpp"

namespace seedbed::index {

enum class Bm25Variant { Lucene, Robertson, Atire, Plus, L, Learned };

struct Bm25State {
  std::span<const std::int64_t> labels;          // (documents,)
  std::span<const std::uint64_t> term_offsets;   // (terms + 1,)
  std::span<const std::uint32_t> documents;      // (postings,) ascending within a term
  std::span<const std::uint32_t> counts;         // (postings,) or bits of weights
};

class Bm25 {
 public:
  Bm25(Bm25Variant variant, double k1, double b, double delta);

  // Document i has terms[offsets[i] .. offsets[i + 1]), with `weights` if they are learned (else null). Throws
  // std::invalid_argument on an id that is there or twice, and on weights that are not above 0 or of one term twice.
  void add(const std::uint32_t* terms, const float* weights, const std::int64_t* offsets, const std::int64_t* ids,
           std::size_t count, std::size_t vocabulary);
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) scores and ids; padded with -infinity and -1. Documents without any query term are left out; among
  // equal scores the document that came first is first. Learned weights of the queries are finite and not negative.
  void search(const std::uint32_t* terms, const float* weights, const std::int64_t* offsets, std::size_t count, std::size_t k,
              const std::vector<std::int64_t>* allowed, std::size_t threads, float* scores, std::int64_t* ids) const;

  void restore(const Bm25State& state);
  Bm25State compacted_state();  // after moving everything into the flat arrays
  std::size_t size() const;
  std::size_t memory_bytes() const;
  bool learned() const { return learned_; }

 private:
  struct Recent {
    std::vector<std::uint32_t> documents, counts;
  };
  struct QueryTerm {
    std::uint32_t term;
    double weight;
    float bound;  // no document gets more from this term
  };
  struct Curve;
  struct Workspace;  // of one thread: bm25_search.cpp
  struct Visible {   // documents that a search may return
    const std::uint8_t* hidden;  // by document, or null
    const std::vector<std::uint32_t>* few;  // the only ones, or null
  };

  void compact();
  void count_documents();
  void refresh_bounds();
  template <class Visit>
  void each_posting(std::uint32_t term, const Visit& visit) const;

  double average_length() const;
  double idf(std::uint32_t term) const;
  double share(std::uint32_t amount, double norm) const;  // the fraction, or the document's own weight
  double weigh(const std::uint32_t* terms, const float* weights, std::size_t count,
               std::vector<QueryTerm>& query) const;  // returns the base
  double exact_score(std::uint32_t document, const std::vector<QueryTerm>& by_term, double average) const;
  void search_one(std::vector<QueryTerm>& query, std::size_t k, const Visible& visible, double base,
                  Workspace& work, float* scores, std::int64_t* ids) const;
  void gather(const std::vector<QueryTerm>& query, std::size_t k, const std::uint8_t* hidden, double average,
              Workspace& work) const;
  template <bool kLearned>
  void add_run(std::size_t run, const Curve& curve, std::uint32_t begin, Workspace& work) const;

  const Bm25Variant variant_;
  const double k1_, b_, delta_;
  const double saturation_;
  const bool learned_;
  Array<std::int64_t> labels_;
  Array<std::uint64_t> term_offsets_;
  Array<std::uint32_t> documents_, counts_;
  std::vector<Recent> recent_;  // by term
  std::size_t recent_count_ = 0;
  std::vector<std::uint32_t> frequency_;      // by term: live documents that hold it
  std::vector<std::uint32_t> lengths_;        // by document
  std::vector<std::uint8_t> removed_;
  // By document: its distinct terms, ascending, with their counts. A removal takes them out of the statistics, and a search
  // scores the few documents that may be among the best by them.
  std::vector<std::uint64_t> own_offsets_ = {0};
  std::vector<std::uint32_t> own_terms_, own_counts_;
  // By term: the largest share of its documents, fractions taken at this average length.
  std::vector<float> bounds_;
  double bounds_average_ = 1;
  std::size_t changed_since_bounds_ = 0;
  LabelMap map_;
  std::uint64_t total_length_ = 0;
  std::size_t live_ = 0;
  mutable std::shared_mutex access_;
  mutable std::mutex turnstile_;
};

inline double Bm25::share(std::uint32_t amount, double norm) const {
  return learned_ ? double{std::bit_cast<float>(amount)} : amount / (amount + norm);
}

template <class Visit>
void Bm25::each_posting(std::uint32_t term, const Visit& visit) const {
  if (std::size_t{term} + 1 < term_offsets_.size())
    for (std::uint64_t i = term_offsets_[term]; i < term_offsets_[term + 1]; ++i) visit(documents_[i], counts_[i]);
  if (term < recent_.size())
    for (std::size_t i = 0; i < recent_[term].documents.size(); ++i)
      visit(recent_[term].documents[i], recent_[term].counts[i]);
}

}  // namespace seedbed::index

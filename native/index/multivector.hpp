// Late interaction over many documents, after PLAID (Santhanam et al., CIKM 2022). A token is its nearest centroid and the
// code of its residual (ColBERTv2): per component one of 2^bits weights. A search
//   1. compares the query's tokens with the centroids and takes the nearest ones of each token (probes);
//   2. adds up, for every document in the lists of these centroids, how much nearer each token's best of them is than the last
//      one probed (what was not probed counts as the last: Lee et al., XTR, 2023);
//   3. scores the best documents (candidates) by MaxSim with their decoded tokens.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "index/gate.hpp"
#include "index/maxsim.hpp"
#include "index/panels.hpp"
#include "index/storage.hpp"

namespace seedbed::index {

struct MultiVectorState {
  std::span<const float> centroids;              // rows padded with zeros to whole groups of codes
  std::span<const float> cutoffs;                // (2^bits - 1,) between the codes, ascending
  std::span<const float> weights;                // (2^bits,) what a code stands for
  std::span<const std::int64_t> labels;          // (documents,)
  std::span<const std::uint64_t> starts;         // (documents + 1,) first tokens
  std::span<const std::uint32_t> token_centroids;  // (tokens,)
  std::span<const std::uint8_t> codes;           // (tokens * code_bytes,)
};

struct MultiVectorSearch {
  std::size_t k, probes, candidates, threads;
};

class MultiVector {
 public:
  // Codes lie in a file in the folder `spill`, or in memory where that is empty.
  MultiVector(std::size_t dim, unsigned bits, const std::string& spill);
  ~MultiVector();

  // Once, before the first token comes in.
  void set_codec(std::span<const float> centroids, std::span<const float> cutoffs, std::span<const float> weights);
  // Document i has the unit vectors tokens[offsets[i]] .. tokens[offsets[i + 1]]. Throws std::invalid_argument on an id that
  // is there or twice.
  void add(const float* tokens, const std::int64_t* offsets, const std::int64_t* ids, std::size_t count, std::size_t threads);
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) scores and ids; padded with -infinity and -1. Documents without tokens are left out.
  void search(const float* tokens, const std::int64_t* offsets, std::size_t count, const MultiVectorSearch& how,
              const std::vector<std::int64_t>* allowed, float* scores, std::int64_t* ids) const;

  std::int64_t first_known(const std::int64_t* ids, std::size_t count) const;  // -1 where none is in the index
  std::vector<float> decoded(std::int64_t id) const;  // the unit vectors that its tokens stand for

  void restore(const MultiVectorState& state);
  MultiVectorState compacted_state();  // after removed documents have left the arrays
  bool trained() const { return centroid_count_ > 0; }
  std::size_t dim() const { return dim_; }
  std::size_t code_bytes() const { return code_bytes_; }
  std::size_t size() const;
  std::size_t token_count() const;
  std::size_t memory_bytes() const;

 private:
  struct Workspace;

  void encode(const float* token, std::uint32_t centroid, std::uint8_t* out) const;
  void decode(std::uint64_t token, const simd::MaxSimKernel& kernel, float* out) const;
  void list(std::uint32_t document);  // puts it into the lists of its centroids
  void rebuild_lists();
  void compact();
  void probe(const float* tokens, std::size_t count, std::size_t probes, const std::uint8_t* hidden, Workspace& work) const;
  void search_one(const float* tokens, std::size_t count, const MultiVectorSearch& how, const std::uint8_t* hidden,
                  const std::vector<std::uint32_t>* few, Workspace& work, float* scores, std::int64_t* ids) const;
  std::unique_ptr<Workspace> borrow_workspace() const;
  std::uint64_t tokens_of(std::uint32_t document) const { return starts_[document + 1] - starts_[document]; }

  const std::size_t dim_;
  const unsigned bits_;
  const std::size_t code_bytes_, stride_;  // of a token's codes; of a decoded token in floats
  std::size_t centroid_count_ = 0;
  std::vector<float> centroids_, cutoffs_, weights_;  // centroids in rows of stride_; sixteen weights
  Panels panels_;
  Array<std::int64_t> labels_;
  Array<std::uint64_t> starts_;
  Array<std::uint32_t> token_centroids_;
  Array<std::uint8_t> codes_;
  std::vector<std::uint8_t> removed_;
  // Documents by centroid, each once: flat, and the latest ones apart until they are a quarter of all.
  std::vector<std::uint64_t> list_offsets_ = {0};
  std::vector<std::uint32_t> lists_;
  std::vector<std::vector<std::uint32_t>> recent_;
  std::size_t recent_count_ = 0;
  LabelMap map_;
  std::size_t live_ = 0;
  Gate gate_;
  mutable std::mutex idle_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace seedbed::index

// Applying BPE: the merges of a vocabulary, on the bytes of one pre-token.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/bpe_train.hpp"
#include "tokenizer/pair_map.hpp"

namespace seedbed::tokenizer {

// The rank of the merge of two tokens; the lowest rank goes first. A slot packs both ids and the rank into eight bytes,
// so that the table stays in the fast caches; the slots of a bucket are compared without a branch, as nothing could
// guess whether two tokens merge.
class MergeRanks {
 public:
  static constexpr std::uint32_t kNone = (1u << 21) - 1;  // also the limit of ids and ranks

  MergeRanks() { clear(4); }
  void add(std::uint32_t left, std::uint32_t right, std::uint32_t rank);  // the last rank given to a pair holds
  std::uint32_t find(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t i = start(key);; i = (i + 1) & mask_) {
      const Bucket& bucket = buckets_[i];
      std::uint64_t found = kNone;
      for (const std::uint64_t slot : bucket.slots) found = slot >> 21 == key ? slot : found;
      const auto rank = static_cast<std::uint32_t>(found) & kNone;
      if (rank != kNone || bucket.slots[kSlots - 1] == kEmpty) return rank;
    }
  }

 private:
  static constexpr std::size_t kSlots = 4;
  struct alignas(32) Bucket {
    std::uint64_t slots[kSlots];  // filled in order
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  static std::uint64_t key_of(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 21 | right; }
  std::size_t start(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> 32 & mask_; }
  void clear(std::size_t buckets);
  void put(std::uint64_t key, std::uint32_t rank);

  std::vector<Bucket> buckets_;
  std::size_t mask_, count_;
};

// Working memory of one thread, reused from word to word.
struct MergeScratch {
  struct Symbol {
    std::uint32_t id, previous, next;
  };
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> heap;  // rank << 32 | position: the smallest is the lowest rank, then the leftmost
};

class BpeModel {
 public:
  // tokens[id] are the bytes of each id. A pre-token that spells one of the ids `whole_words` becomes that id without
  // merges ("ignore_merges"). Throws std::invalid_argument on ids out of range.
  BpeModel(std::vector<std::string> tokens, const std::vector<Merge>& merges,
           const std::array<std::uint32_t, 256>& bytes, const std::vector<std::uint32_t>& whole_words);

  std::size_t size() const { return tokens_.size(); }
  const std::string& token(std::uint32_t id) const { return tokens_[id]; }

  // Writes the ids of a word to `out`, which has room for one a byte; returns how many.
  std::size_t encode(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const;

 private:
  using MergeShort = std::size_t (BpeModel::*)(std::string_view word, std::uint32_t* out) const;
  std::uint32_t result(std::uint32_t rank) const { return first_result_ ? first_result_ + rank : results_[rank]; }
  static constexpr std::size_t kShortWord = 224;  // a place in it fits a byte
  static MergeShort best_merge_short();           // by the instruction set in use
  std::size_t merge_short_scalar(std::string_view word, std::uint32_t* out) const;
  std::size_t merge_short_avx2(std::string_view word, std::uint32_t* out) const;
  std::size_t merge_short_avx512(std::string_view word, std::uint32_t* out) const;
  std::size_t merge_sixteen_avx512(std::string_view word, std::uint32_t* out) const;
  std::size_t merge_long(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const;

  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, std::uint32_t> whole_words_;  // keys lie in tokens_
  std::array<std::uint32_t, 256> bytes_;
  MergeShort merge_short_ = best_merge_short();
  MergeRanks ranks_;
  std::vector<std::uint32_t> byte_ranks_;  // of the bytes [left << 8 | right]
  std::vector<std::uint32_t> results_;     // of each rank
  std::uint32_t first_result_ = 0;         // if not 0, result r is this and r: no need to ask memory
};

}  // namespace seedbed::tokenizer

// Encoding repeats the training on one word: of all neighbouring pairs that some merge knows, the one of lowest rank
// (the leftmost of equals) becomes one symbol, until no merge applies.
//
// Short words look for the lowest rank by scanning, sixteen at a time where the processor can: quadratic in the word,
// but fastest for a few bytes. Long ones keep the symbols in a linked list and the pairs in a heap: a pair enters when it comes into being and is
// checked when it comes up, so a word of n bytes costs O(n log n) time and O(n) memory.
#include "tokenizer/bpe_model.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "simd/lowest.hpp"

namespace seedbed::tokenizer {
namespace {

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr std::uint32_t kNoMerge = MergeRanks::kNone;
constexpr std::size_t kShortWord = 224;  // fits the links of merge_short

}  // namespace

void MergeRanks::add(std::uint32_t left, std::uint32_t right, std::uint32_t rank) {
  if (2 * (count_ + 1) > slots_.size()) {
    std::vector<std::uint64_t> old(slots_.size() * 2, kEmpty);
    old.swap(slots_);
    for (const std::uint64_t slot : old) {
      if (slot == kEmpty) continue;
      std::size_t i = start(slot >> 21);
      while (slots_[i] != kEmpty) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = slot;
    }
  }
  const std::uint64_t key = key_of(left, right);
  std::size_t i = start(key);
  while (slots_[i] != kEmpty && slots_[i] >> 21 != key) i = (i + 1) & (slots_.size() - 1);
  count_ += slots_[i] == kEmpty;
  slots_[i] = key << 21 | rank;
}

BpeModel::BpeModel(std::vector<std::string> tokens, const std::vector<Merge>& merges,
                   const std::array<std::uint32_t, 256>& bytes,
                   const std::vector<std::uint32_t>& whole_words)
    : tokens_(std::move(tokens)), bytes_(bytes) {
  if (tokens_.size() >= kNoMerge || merges.size() >= kNoMerge)
    throw std::invalid_argument("more than two million tokens or merges");
  for (const std::uint32_t id : bytes_)
    if (id >= size()) throw std::invalid_argument("the id of a byte is out of range");
  for (const Merge& merge : merges) {
    const auto rank = static_cast<std::uint32_t>(results_.size());
    if (merge.left >= size() || merge.right >= size() || merge.result >= size())
      throw std::invalid_argument("merge " + std::to_string(rank) + " names an id out of range");
    ranks_.add(merge.left, merge.right, rank);
    results_.push_back(merge.result);
  }
  if (!results_.empty()) first_result_ = results_[0];
  for (std::uint32_t rank = 0; rank < results_.size(); ++rank)
    if (results_[rank] != results_[0] + rank) first_result_ = 0;
  byte_ranks_.resize(1 << 16);
  for (std::uint32_t pair = 0; pair < byte_ranks_.size(); ++pair)
    byte_ranks_[pair] = ranks_.find(bytes_[pair >> 8], bytes_[pair & 255]);
  for (const std::uint32_t id : whole_words) {
    if (id >= size()) throw std::invalid_argument("the id of a whole word is out of range");
    whole_words_.try_emplace(tokens_[id], id);
  }
}

std::size_t BpeModel::encode(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const {
  if (!whole_words_.empty())
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) {
      *out = found->second;
      return 1;
    }
  return word.size() <= kShortWord ? (this->*merge_short_)(word, out) : merge_long(word, out, scratch);
}

// The symbols of a word are linked; a symbol that was swallowed by its left neighbour keeps a rank that never is lowest.
#define SEEDBED_MERGE_SHORT(TARGET, NAME, LOWEST)                                                                   \
  TARGET std::size_t BpeModel::NAME(std::string_view word, std::uint32_t* out) const {                              \
    std::uint32_t ranks[kShortWord + simd::kLowestLanes], ids[kShortWord];  /* ranks: of a symbol and the next */   \
    std::uint8_t next[kShortWord], previous[kShortWord];                                                            \
    const std::size_t n = word.size();                                                                              \
    const std::size_t padded = (n + simd::kLowestLanes - 1) / simd::kLowestLanes * simd::kLowestLanes;              \
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };                            \
    for (std::size_t i = 0; i < n; ++i) {                                                                           \
      ids[i] = bytes_[byte(i)];                                                                                     \
      ranks[i] = i + 1 < n ? byte_ranks_[std::size_t{byte(i)} << 8 | byte(i + 1)] : kNoMerge;                       \
      next[i] = static_cast<std::uint8_t>(i + 1);                                                                   \
      previous[i] = static_cast<std::uint8_t>(i - 1);                                                               \
    }                                                                                                               \
    for (std::size_t i = n; i < padded; ++i) ranks[i] = kNoMerge;                                                   \
    for (;;) {                                                                                                      \
      const std::size_t i = LOWEST::lowest(ranks, padded);  /* the leftmost of equals */                            \
      if (ranks[i] == kNoMerge) break;                                                                              \
      ids[i] = result(ranks[i]);                                                                                    \
      const std::size_t swallowed = next[i], after = next[swallowed];                                               \
      ranks[swallowed] = kNoMerge;                                                                                  \
      next[i] = static_cast<std::uint8_t>(after);                                                                   \
      if (after < n) previous[after] = static_cast<std::uint8_t>(i);                                                \
      ranks[i] = after < n ? ranks_.find(ids[i], ids[after]) : kNoMerge;                                            \
      if (i > 0) ranks[previous[i]] = ranks_.find(ids[previous[i]], ids[i]);                                        \
    }                                                                                                               \
    std::size_t count = 0;                                                                                          \
    for (std::size_t i = 0; i < n; i = next[i]) out[count++] = ids[i];                                              \
    return count;                                                                                                   \
  }

SEEDBED_MERGE_SHORT(, merge_short_scalar, simd::LowestScalar)
#if defined(__x86_64__)
SEEDBED_MERGE_SHORT(__attribute__((target("avx2,bmi"))), merge_short_avx2, simd::LowestAvx2)
SEEDBED_MERGE_SHORT(__attribute__((target("avx512f,avx2,bmi"))), merge_short_avx512, simd::LowestAvx512)
#endif

BpeModel::MergeShort BpeModel::best_merge_short() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return &BpeModel::merge_short_avx512;
  if (simd::level() == simd::Level::Avx2) return &BpeModel::merge_short_avx2;
#endif
  return &BpeModel::merge_short_scalar;
}

std::size_t BpeModel::merge_long(std::string_view word, std::uint32_t* out, MergeScratch& scratch) const {
  if (word.size() >= kNone) throw std::length_error("a piece of text of 4 GiB without a cut cannot be encoded");
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<std::uint32_t>(word.size());
  symbols.resize(n);
  heap.clear();
  const auto rank_at = [&](std::uint32_t i) {
    return symbols[i].next == kNone ? kNoMerge : ranks_.find(symbols[i].id, symbols[symbols[i].next].id);
  };
  for (std::uint32_t i = 0; i < n; ++i)
    symbols[i] = {bytes_[static_cast<std::uint8_t>(word[i])], i ? i - 1 : kNone, i + 1 < n ? i + 1 : kNone};
  for (std::uint32_t i = 0; i < n; ++i)
    if (const std::uint32_t rank = rank_at(i); rank != kNoMerge) heap.push_back(std::uint64_t{rank} << 32 | i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto position = static_cast<std::uint32_t>(heap.back());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (symbols[position].id == kNone) continue;  // swallowed by its left neighbour
    if (rank_at(position) != rank) continue;  // one of the two has grown since
    const std::uint32_t swallowed = symbols[position].next, after = symbols[swallowed].next;
    symbols[position].id = result(rank);
    symbols[position].next = after;
    symbols[swallowed].id = kNone;
    if (after != kNone) symbols[after].previous = position;
    for (const std::uint32_t i : {symbols[position].previous, position}) {
      if (i == kNone) continue;
      if (const std::uint32_t grown = rank_at(i); grown != kNoMerge) {
        heap.push_back(std::uint64_t{grown} << 32 | i);
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
      }
    }
  }
  std::size_t count = 0;
  for (std::uint32_t i = 0; i != kNone; i = symbols[i].next) out[count++] = symbols[i].id;
  return count;
}

}  // namespace seedbed::tokenizer

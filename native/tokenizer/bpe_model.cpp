// Encoding repeats the training on one word: of all neighbouring pairs that some merge knows, the one of lowest rank
// (the leftmost of equals) becomes one symbol, until no merge applies.
//
// Short words look for the lowest rank by scanning (bpe_short_words.cpp): quadratic in the word, but fastest for a few
// bytes. Long ones keep the symbols in a linked list and the pairs in a heap: a pair enters when it comes into being
// and is checked when it comes up, so a word of n bytes costs O(n log n) time and O(n) memory.
#include "tokenizer/bpe_model.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

namespace seedbed::tokenizer {
namespace {

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr std::uint32_t kNoMerge = MergeRanks::kNone;

}  // namespace

void MergeRanks::clear(std::size_t buckets) {
  Bucket empty;
  std::fill(std::begin(empty.slots), std::end(empty.slots), kEmpty);
  buckets_.assign(buckets, empty);
  mask_ = buckets - 1;
  count_ = 0;
}

void MergeRanks::put(std::uint64_t key, std::uint32_t rank) {
  for (std::size_t i = start(key);; i = (i + 1) & mask_)
    for (std::uint64_t& slot : buckets_[i].slots)
      if (slot == kEmpty || slot >> 21 == key) {
        count_ += slot == kEmpty;
        slot = key << 21 | rank;
        return;
      }
}

void MergeRanks::add(std::uint32_t left, std::uint32_t right, std::uint32_t rank) {
  if (2 * (count_ + 1) > kSlots * buckets_.size()) {
    const std::vector<Bucket> old = std::move(buckets_);
    clear(old.size() * 2);
    for (const Bucket& bucket : old)
      for (const std::uint64_t slot : bucket.slots)
        if (slot != kEmpty) put(slot >> 21, static_cast<std::uint32_t>(slot) & kNone);
  }
  put(key_of(left, right), rank);
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

// Encoding repeats the training on one word: of all neighbouring pairs that some merge knows, the one of lowest rank
// (the leftmost of equals) becomes one symbol, until no merge applies.
//
// Short words look for the lowest rank by scanning, which is quadratic in the word but fastest for a few bytes. Long
// ones keep the symbols in a linked list and the pairs in a heap: a pair enters when it comes into being and is
// checked when it comes up, so a word of n bytes costs O(n log n) time and O(n) memory.
#include "tokenizer/bpe_model.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

namespace seedbed::tokenizer {
namespace {

constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr std::uint32_t kNoMerge = MergeRanks::kNone;
constexpr std::size_t kShortWord = 96;

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
  return word.size() <= kShortWord ? merge_short(word, out) : merge_long(word, out, scratch);
}

std::size_t BpeModel::merge_short(std::string_view word, std::uint32_t* out) const {
  std::size_t n = word.size();
  std::uint32_t ranks[kShortWord];  // of the pair (i, i + 1)
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };
  for (std::size_t i = 0; i < n; ++i) out[i] = bytes_[byte(i)];
  for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = byte_ranks_[std::size_t{byte(i)} << 8 | byte(i + 1)];
  while (n > 1) {
    std::size_t best = 0;
    std::uint32_t lowest = ranks[0];
    for (std::size_t i = 1; i + 1 < n; ++i) {
      const bool lower = ranks[i] < lowest;  // the leftmost of equals
      lowest = lower ? ranks[i] : lowest;
      best = lower ? i : best;
    }
    if (lowest == kNoMerge) break;
    out[best] = results_[lowest];
    --n;
    for (std::size_t i = best + 1; i < n; ++i) {
      out[i] = out[i + 1];
      ranks[i - 1] = ranks[i];
    }
    if (best + 1 < n) ranks[best] = ranks_.find(out[best], out[best + 1]);
    if (best > 0) ranks[best - 1] = ranks_.find(out[best - 1], out[best]);
  }
  return n;
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
    symbols[position].id = results_[rank];
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

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
constexpr std::uint64_t kNoMerge = ~std::uint64_t{0};
constexpr std::size_t kShortWord = 96;

}  // namespace

BpeModel::BpeModel(std::vector<std::string> tokens, const std::vector<Merge>& merges,
                   const std::array<std::uint32_t, 256>& bytes,
                   const std::vector<std::uint32_t>& whole_words)
    : tokens_(std::move(tokens)), bytes_(bytes) {
  if (tokens_.size() >= kNone || merges.size() >= kNone) throw std::invalid_argument("more than 2^32 tokens or merges");
  for (const std::uint32_t id : bytes_)
    if (id >= size()) throw std::invalid_argument("the id of a byte is out of range");
  for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    if (merge.left >= size() || merge.right >= size() || merge.result >= size())
      throw std::invalid_argument("merge " + std::to_string(rank) + " names an id out of range");
    merges_[pair_of(merge.left, merge.right)] = {rank, merge.result};
  }
  byte_pairs_.resize(1 << 16);
  for (std::uint32_t pair = 0; pair < byte_pairs_.size(); ++pair)
    byte_pairs_[pair] = merge_of(bytes_[pair >> 8], bytes_[pair & 255]);
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

// Which merge two neighbours take part in: rank << 32 | result, so that the smallest number is the first to apply.
std::uint64_t BpeModel::merge_of(std::uint32_t left, std::uint32_t right) const {
  const MergeRule* rule = merges_.find(pair_of(left, right));
  return rule ? std::uint64_t{rule->rank} << 32 | rule->result : kNoMerge;
}

std::size_t BpeModel::merge_short(std::string_view word, std::uint32_t* out) const {
  std::size_t n = word.size();
  std::uint64_t merges[kShortWord];  // of the pair (i, i + 1)
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };
  for (std::size_t i = 0; i < n; ++i) out[i] = bytes_[byte(i)];
  for (std::size_t i = 0; i + 1 < n; ++i) merges[i] = byte_pairs_[std::size_t{byte(i)} << 8 | byte(i + 1)];
  while (n > 1) {
    std::size_t best = 0;
    std::uint64_t lowest = merges[0];
    for (std::size_t i = 1; i + 1 < n; ++i) {
      const bool lower = merges[i] < lowest;  // the leftmost of equals
      lowest = lower ? merges[i] : lowest;
      best = lower ? i : best;
    }
    if (lowest == kNoMerge) break;
    out[best] = static_cast<std::uint32_t>(lowest);
    --n;
    for (std::size_t i = best + 1; i < n; ++i) {
      out[i] = out[i + 1];
      merges[i - 1] = merges[i];
    }
    if (best + 1 < n) merges[best] = merge_of(out[best], out[best + 1]);
    if (best > 0) merges[best - 1] = merge_of(out[best - 1], out[best]);
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
  const auto entry_at = [&](std::uint32_t i) -> const MergeRule* {
    return symbols[i].next == kNone ? nullptr : merges_.find(pair_of(symbols[i].id, symbols[symbols[i].next].id));
  };
  for (std::uint32_t i = 0; i < n; ++i)
    symbols[i] = {bytes_[static_cast<std::uint8_t>(word[i])], i ? i - 1 : kNone, i + 1 < n ? i + 1 : kNone};
  for (std::uint32_t i = 0; i < n; ++i)
    if (const MergeRule* rule = entry_at(i)) heap.push_back(std::uint64_t{rule->rank} << 32 | i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto position = static_cast<std::uint32_t>(heap.back());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (symbols[position].id == kNone) continue;  // swallowed by its left neighbour
    const MergeRule* rule = entry_at(position);
    if (!rule || rule->rank != rank) continue;  // one of the two has grown since
    const std::uint32_t swallowed = symbols[position].next, after = symbols[swallowed].next;
    symbols[position].id = rule->result;
    symbols[position].next = after;
    symbols[swallowed].id = kNone;
    if (after != kNone) symbols[after].previous = position;
    for (const std::uint32_t i : {symbols[position].previous, position}) {
      if (i == kNone) continue;
      if (const MergeRule* grown = entry_at(i)) {
        heap.push_back(std::uint64_t{grown->rank} << 32 | i);
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
      }
    }
  }
  std::size_t count = 0;
  for (std::uint32_t i = 0; i != kNone; i = symbols[i].next) out[count++] = symbols[i].id;
  return count;
}

}  // namespace seedbed::tokenizer

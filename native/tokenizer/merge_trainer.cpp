#include "tokenizer/merge_trainer.hpp"

#include <algorithm>
#include <stdexcept>

namespace seedbed::tokenizer {

std::uint32_t MergeTrainer::id_of(std::string token) {
  const auto [found, fresh] = ids_.try_emplace(std::move(token), static_cast<std::uint32_t>(vocabulary_.tokens.size()));
  if (fresh) vocabulary_.tokens.push_back(found->first);
  return found->second;
}

void MergeTrainer::reserve(std::size_t words, std::size_t symbols) {
  words_.reserve(words);
  symbols_.reserve(symbols);
}

void MergeTrainer::add(std::span<const std::uint32_t> symbols, std::uint64_t count) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  if (words_.size() == ~std::uint32_t{0}) throw std::length_error("more than 2^32 different words");
  if (symbols.size() >> 24 || (symbols_.size() + symbols.size()) >> 40) throw std::length_error("a word is too long");
  if (!symbols.empty() && count > (kMost - occurrences_) / symbols.size())
    throw std::overflow_error("the words have more than 2^62 symbols");
  occurrences_ += symbols.size() * count;
  words_.push_back({symbols_.size(), symbols.size(), count});
  symbols_.insert(symbols_.end(), symbols.begin(), symbols.end());
}

Vocabulary MergeTrainer::run(std::size_t vocab_size, std::uint64_t min_frequency) {
  queue_first_pairs();
  symbols_left_ = symbols_.size();
  std::uint64_t count;
  Candidate best;
  while (vocabulary_.tokens.size() < vocab_size && queue_.pop(std::max<std::uint64_t>(min_frequency, 1), count, best)) {
    if (const std::int64_t now = counts_[best.pair]; now != static_cast<std::int64_t>(count)) {  // stale
      if (now > 0) queue_.push(static_cast<std::uint64_t>(now), std::move(best));
      continue;
    }
    Merge merge{left_of(best.pair), right_of(best.pair), 0};
    merge.result = id_of(join_(vocabulary_.tokens[merge.left], vocabulary_.tokens[merge.right]));
    vocabulary_.merges.push_back(merge);
    constexpr std::size_t kAhead = 8;  // words lie far apart in memory
    for (const std::uint32_t *place = best.places.begin(), *end = best.places.end(); place < end; ++place) {
      if (end - place > 2 * static_cast<std::ptrdiff_t>(kAhead)) {
        __builtin_prefetch(&words_[place[2 * kAhead]]);
        __builtin_prefetch(&symbols_[words_[place[kAhead]].start], 1);
      }
      merge_word(*place, merge);
    }
    best.places = Places();
    apply(merge);
    if (2 * symbols_left_ < symbols_.size()) close_up();
  }
  return std::move(vocabulary_);
}

// The pairs of the alphabet. Their words are counted first, so that each list gets the room that it needs.
void MergeTrainer::queue_first_pairs() {
  struct First {
    std::uint32_t places = 0, last = 0;  // last word (plus one) that held the pair
    std::int64_t count = 0;
  };
  PairMap<First> found;
  for (std::uint32_t place = 0; place < words_.size(); ++place) {
    const Word& word = words_[place];
    for (std::size_t i = 1; i < word.length; ++i) {
      First& first = found[pair_of(symbols_[word.start + i - 1], symbols_[word.start + i])];
      first.count += static_cast<std::int64_t>(word.count);
      first.places += first.last != place + 1;
      first.last = place + 1;
    }
  }
  PairMap<Places> lists;
  found.for_each([&](Pair pair, First& first) {
    lists[pair] = Places(first.places);
    first.places = first.last = 0;
  });
  for (std::uint32_t place = 0; place < words_.size(); ++place) {
    const Word& word = words_[place];
    for (std::size_t i = 1; i < word.length; ++i) {
      const Pair pair = pair_of(symbols_[word.start + i - 1], symbols_[word.start + i]);
      First& first = found[pair];
      if (first.last == place + 1) continue;
      first.last = place + 1;
      lists[pair].begin()[first.places++] = place;
    }
  }
  found.for_each([&](Pair pair, First& first) {
    counts_.change(pair, first.count);
    if (first.count > 0) queue_.push(static_cast<std::uint64_t>(first.count), {pair, std::move(lists[pair])});
  });
}

MergeTrainer::Change& MergeTrainer::Side::of(std::uint32_t other) {
  if (slots.size() <= other) slots.resize(other + other / 2 + 64);
  std::uint32_t& slot = slots[other];
  if (slot == 0) {
    changes.push_back({0, other, 0, 0});
    slot = static_cast<std::uint32_t>(changes.size());
  }
  return changes[slot - 1];
}

void MergeTrainer::Side::clear() {
  for (const Change& change : changes) slots[change.other] = 0;
  changes.clear();
}

void MergeTrainer::gain(Side& side, std::uint32_t behind, std::uint32_t other, std::uint32_t place,
                        std::uint64_t count) {
  Change& change = side.of(other);
  change.difference += static_cast<std::int64_t>(count);
  if (change.places > 0 && change.last_place == place) return;
  ++change.places;
  change.last_place = place;
  gained_places_.emplace_back((side.slots[other] - 1) << 1 | behind, place);
}

// Put every (left, right) of one word together, from left to right, and note what becomes of its other pairs.
void MergeTrainer::merge_word(std::uint32_t place, const Merge& merge) {
  Word& word = words_[place];
  std::uint32_t* symbols = symbols_.data() + word.start;
  const auto count = static_cast<std::int64_t>(word.count);
  const std::size_t length = word.length;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < length; ++i) {
    if (symbols[i] != merge.left || i + 1 == length || symbols[i + 1] != merge.right) {
      symbols[kept++] = symbols[i];
      continue;
    }
    if (kept > 0) {
      const std::uint32_t before = symbols[kept - 1];
      lost_before_.of(before).difference -= count;
      if (before == merge.result)
        gain(gained_behind_, 1, merge.result, place, word.count);
      else
        gain(gained_before_, 0, before, place, word.count);
    }
    if (i + 2 < length) {
      const std::uint32_t behind = symbols[i + 2];
      lost_behind_.of(behind).difference -= count;
      gain(gained_behind_, 1, behind, place, word.count);
    }
    symbols[kept++] = merge.result;
    ++i;
  }
  word.length = kept;
  symbols_left_ -= length - kept;
}

void MergeTrainer::close_up() {
  std::size_t end = 0;
  for (Word& word : words_) {
    std::copy_n(symbols_.begin() + static_cast<std::ptrdiff_t>(word.start), word.length,
                symbols_.begin() + static_cast<std::ptrdiff_t>(end));
    word.start = end;
    end += word.length;
  }
  symbols_.resize(end);
  symbols_.shrink_to_fit();
}

// Bring counts and queue up to date with what the merge changed.
void MergeTrainer::apply(const Merge& merge) {
  for (const Change& change : lost_before_.changes)
    counts_.change(pair_of(change.other, merge.left), change.difference);
  for (const Change& change : lost_behind_.changes)
    counts_.change(pair_of(merge.right, change.other), change.difference);
  std::vector<Places> lists[2];
  std::vector<std::uint32_t*> next[2];
  Side* const sides[2] = {&gained_before_, &gained_behind_};
  for (int behind = 0; behind < 2; ++behind) {
    lists[behind].reserve(sides[behind]->changes.size());
    for (const Change& change : sides[behind]->changes)
      next[behind].push_back(lists[behind].emplace_back(change.places).begin());
  }
  for (const auto& [change, place] : gained_places_) *next[change & 1][change >> 1]++ = place;
  gained_places_.clear();
  for (int behind = 0; behind < 2; ++behind) {
    for (std::size_t i = 0; i < lists[behind].size(); ++i) {
      const Change& change = sides[behind]->changes[i];
      const Pair pair = behind ? pair_of(merge.result, change.other) : pair_of(change.other, merge.result);
      const std::int64_t count = counts_.change(pair, change.difference);
      if (count > 0) queue_.push(static_cast<std::uint64_t>(count), {pair, std::move(lists[behind][i])});
    }
  }
  for (Side* side : {&lost_before_, &lost_behind_, &gained_before_, &gained_behind_}) side->clear();
}

}  // namespace seedbed::tokenizer

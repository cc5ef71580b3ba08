// The idea: every word is a row of symbols, at first its bytes. Again and again the pair of neighbours that occurs
// most often in all words becomes one new symbol.
//
// Counting all pairs anew for each merge would cost (merges x text). Instead the counts are kept: a merge changes only
// the words that hold its pair, and in them only the counts of the neighbours. A heap gives the most frequent pair; its
// entries grow stale as counts fall, so an entry is checked against the count when it comes up and put back if it has
// sunk. Each merge costs the length of the words that it touches, and as words shrink with every merge in them, the
// whole costs about (sum of word lengths x log heap) beyond the first count.
#include "tokenizer/bpe_train.hpp"

#include <algorithm>
#include <queue>
#include <unordered_map>

namespace seedbed::tokenizer {
namespace {

struct Word {
  std::vector<std::uint32_t> symbols;
  std::int64_t count;
};

using Places = std::vector<std::uint32_t>;  // ascending numbers of words that held a pair when its entry was made

struct Candidate {
  std::int64_t count;
  Pair pair;
  Places places;
};

struct WorseCandidate {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.count != b.count ? a.count < b.count : a.pair > b.pair;
  }
};

class Trainer {
 public:
  Trainer(const WordCounts& words, const std::vector<std::string>& specials,
          const std::vector<std::uint8_t>& byte_order) {
    for (const std::string& special : specials) id_of(special);
    std::uint32_t byte_ids[256];
    for (std::uint8_t byte : byte_order) byte_ids[byte] = id_of(std::string(1, static_cast<char>(byte)));
    words_.reserve(words.size());
    for (std::size_t i = 0; i < words.size(); ++i) {
      Word word{{}, static_cast<std::int64_t>(words.count(i))};
      word.symbols.reserve(words.word(i).size());
      for (const char c : words.word(i)) word.symbols.push_back(byte_ids[static_cast<std::uint8_t>(c)]);
      words_.push_back(std::move(word));
    }
  }

  Vocabulary run(std::size_t vocab_size, std::int64_t min_frequency) {
    count_all_pairs();
    queue_new_pairs();
    while (vocabulary_.tokens.size() < vocab_size && !queue_.empty()) {
      Candidate best = std::move(const_cast<Candidate&>(queue_.top()));  // popped at once
      queue_.pop();
      const std::int64_t count = *counts_.find(best.pair);
      if (best.count != count) {  // stale
        best.count = count;
        if (count >= min_frequency) queue_.push(std::move(best));
        continue;
      }
      if (count < min_frequency) break;
      const std::uint32_t left = left_of(best.pair), right = right_of(best.pair);
      const std::uint32_t result = id_of(vocabulary_.tokens[left] + vocabulary_.tokens[right]);
      vocabulary_.merges.push_back({left, right, result});
      for (const std::uint32_t place : best.places) merge(place, left, right, result);
      queue_new_pairs();
    }
    return std::move(vocabulary_);
  }

 private:
  // The id of a token, which is new unless two merges (or a special token) spell the same bytes.
  std::uint32_t id_of(const std::string& token) {
    const auto [found, fresh] = ids_.try_emplace(token, static_cast<std::uint32_t>(vocabulary_.tokens.size()));
    if (fresh) vocabulary_.tokens.push_back(token);
    return found->second;
  }

  void change(Pair pair, std::int64_t difference, std::uint32_t place) {
    counts_[pair] += difference;
    if (difference <= 0) return;
    Places& places = new_places_[pair];
    if (places.empty() || places.back() != place) places.push_back(place);
  }

  void count_all_pairs() {
    for (std::uint32_t place = 0; place < words_.size(); ++place) {
      const Word& word = words_[place];
      for (std::size_t i = 1; i < word.symbols.size(); ++i)
        change(pair_of(word.symbols[i - 1], word.symbols[i]), word.count, place);
    }
  }

  // Put every (left, right) of one word together, from left to right, and keep the counts of its pairs right.
  void merge(std::uint32_t place, std::uint32_t left, std::uint32_t right, std::uint32_t result) {
    Word& word = words_[place];
    std::vector<std::uint32_t>& symbols = word.symbols;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      if (symbols[i] != left || i + 1 == symbols.size() || symbols[i + 1] != right) {
        symbols[kept++] = symbols[i];
        continue;
      }
      if (kept > 0) {
        change(pair_of(symbols[kept - 1], left), -word.count, place);
        change(pair_of(symbols[kept - 1], result), word.count, place);
      }
      if (i + 2 < symbols.size()) {
        change(pair_of(right, symbols[i + 2]), -word.count, place);
        change(pair_of(result, symbols[i + 2]), word.count, place);
      }
      symbols[kept++] = result;
      ++i;
    }
    symbols.resize(kept);
  }

  void queue_new_pairs() {
    new_places_.for_each([&](Pair pair, Places& places) {
      const std::int64_t count = *counts_.find(pair);
      if (count > 0) queue_.push({count, pair, std::move(places)});
    });
    new_places_.clear();
  }

  Vocabulary vocabulary_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<Word> words_;
  PairMap<std::int64_t> counts_;
  PairMap<Places> new_places_;  // of the merge under way
  std::priority_queue<Candidate, std::vector<Candidate>, WorseCandidate> queue_;
};

}  // namespace

Vocabulary train_bpe(const WordCounts& words, std::size_t vocab_size, const std::vector<std::string>& specials,
                     const std::vector<std::uint8_t>& byte_order, std::uint64_t min_frequency) {
  return Trainer(words, specials, byte_order).run(vocab_size, static_cast<std::int64_t>(std::max<std::uint64_t>(min_frequency, 1)));
}

}  // namespace seedbed::tokenizer

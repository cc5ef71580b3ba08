// Learning merges (Sennrich, Haddow and Birch 2016, section 3.2): what byte-level BPE and WordPiece share.
//
// The idea: every word is a row of symbols, at first its bytes or characters. Again and again the pair of neighbours
// that occurs most often in all words becomes one new symbol.
//
// Counting all pairs anew for each merge would cost (merges x text). Instead the counts are kept: a merge changes only
// the words that hold its pair, and in them only the counts of the neighbours. A queue gives the most frequent pair;
// its entries grow stale as counts fall, so an entry is checked against the count when it comes up and put back if it
// has sunk. Each merge costs the length of the words that it touches.
//
// Memory: all symbols lie in one block, which closes up when merges have emptied half of it, and a pair's list of words
// is freed when the pair is merged. Beside that there are the counts of pairs (zeros are dropped as the table fills) and
// the queue.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/pair_counts.hpp"
#include "tokenizer/pair_queue.hpp"

namespace seedbed::tokenizer {

struct Merge {
  std::uint32_t left, right, result;
};

struct Vocabulary {
  std::vector<std::string> tokens;  // of each id: special tokens, the alphabet, what the merges made
  std::vector<Merge> merges;        // in the order in which they were learnt, which is the order of application
};

class MergeTrainer {
 public:
  using Join = std::function<std::string(std::string_view left, std::string_view right)>;
  // join: how the token that a pair makes is written.
  explicit MergeTrainer(Join join) : join_(std::move(join)) {}

  // The id of a token, which is new unless it was named before (or two merges spell it). Special tokens and the
  // alphabet are named first.
  std::uint32_t id_of(std::string token);

  void reserve(std::size_t words, std::size_t symbols);
  // A word that occurs `count` times, in symbols of the alphabet. Throws std::length_error on 2^32 words and
  // std::overflow_error if the symbols of the corpus are not to be counted in 62 bits.
  void add(std::span<const std::uint32_t> symbols, std::uint64_t count);

  // Learns merges until the vocabulary has `vocab_size` tokens or no pair occurs `min_frequency` times. Equal to the
  // trainers of the package `tokenizers`: the most frequent pair first; of equally frequent ones the smaller ids.
  Vocabulary run(std::size_t vocab_size, std::uint64_t min_frequency);

 private:
  struct Word {
    std::uint64_t start : 40, length : 24;  // in symbols_
    std::uint64_t count;
  };
  // What a merge does to one pair.
  struct Change {
    std::int64_t difference = 0;
    std::uint32_t other = 0;       // the symbol beside the merged ones
    std::uint32_t places = 0;      // how many words gained the pair
    std::uint32_t last_place = 0;  // of those
  };
  // Changes by the symbol beside: a slot a symbol, so that a merge looks up each pair in the large table once.
  struct Side {
    std::vector<std::uint32_t> slots;  // index into changes plus one; 0 is none
    std::vector<Change> changes;
    Change& of(std::uint32_t other);
    void clear();
  };

  void queue_first_pairs();
  void close_up();
  void merge_word(std::uint32_t place, const Merge& merge);
  void gain(Side& side, std::uint32_t behind, std::uint32_t other, std::uint32_t place, std::uint64_t count);
  void apply(const Merge& merge);

  Join join_;
  Vocabulary vocabulary_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<std::uint32_t> symbols_;
  std::size_t symbols_left_ = 0;  // of them, those that no merge took away
  std::vector<Word> words_;
  std::uint64_t occurrences_ = 0;  // of all symbols in the corpus
  PairCounts counts_;
  PairQueue queue_;

  // Of the merge under way: pairs (x, left), (right, x) that go, (x, result), (result, x) that come.
  Side lost_before_, lost_behind_, gained_before_, gained_behind_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> gained_places_;  // (change << 1 | behind, word)
};

}  // namespace seedbed::tokenizer

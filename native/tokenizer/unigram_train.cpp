// Far too many pieces to begin with, and then in turns: EM makes their probabilities fit the words, and those pieces
// that the words would miss least are dropped, until the wanted number is left.
//
// EM here is its Bayesian form, in which digamma makes rare pieces rarer still (Liang and Klein, 2007). The sums of the
// E step go over fixed shares of the words, and are then added in a fixed order, whatever the number of threads.
#include "tokenizer/unigram_train.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>

#include "tokenizer/double_array.hpp"
#include "tokenizer/parallel.hpp"
#include "tokenizer/unicode.hpp"
#include "tokenizer/unigram_seeds.hpp"

namespace seedbed::tokenizer {
namespace {

constexpr std::size_t kShares = 16;
constexpr std::size_t kLongestStretch = 192;  // bytes; more is cut, so that products of probabilities stay in range
constexpr double kLeastExpected = 0.5;        // a piece that is expected less often is dropped
constexpr double kRoomToPrune = 1.1;          // of the wanted size: the last ones are dropped by probability alone
constexpr double kImpossible = -std::numeric_limits<double>::infinity();

double digamma(double x) {
  double sum = 0;
  for (; x < 7; ++x) sum -= 1 / x;
  const double inverse = 1 / x, square = inverse * inverse;  // asymptotic series
  return sum + std::log(x) - inverse / 2 - square * (1.0 / 12 - square * (1.0 / 120 - square * (1.0 / 252)));
}

template <class Take>
void each_character(std::string_view text, Take&& take) {
  for (std::size_t at = 0; at < text.size(); at += character_length(text, at))
    take(text.substr(at, character_length(text, at)));
}

// Characters that make up the asked share of the text, the most frequent first, with their counts.
std::vector<std::pair<std::string, double>> frequent_characters(const WordCounts& words, double coverage) {
  std::unordered_map<std::string, double> counts;
  words.for_each([&](std::string_view word, std::uint64_t count) {
    each_character(word, [&](std::string_view c) { counts[std::string(c)] += static_cast<double>(count); });
  });
  std::vector<std::pair<std::string, double>> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  double all = 0, covered = 0;
  for (const auto& [character, count] : sorted) all += count;
  std::size_t kept = 0;
  while (kept < sorted.size() && covered < coverage * all) covered += sorted[kept++].second;
  sorted.resize(kept);
  return sorted;
}

class Trainer {
 public:
  Trainer(const WordCounts& words, const UnigramSettings& settings) : settings_(settings) {
    auto characters = frequent_characters(words, settings.character_coverage);
    if (characters.size() > settings.size)
      throw std::invalid_argument(std::to_string(characters.size()) + " characters must be pieces");
    required_ = characters.size();
    cut_into_stretches(words, characters);
    pieces_ = std::move(characters);
    auto seeds = frequent_substrings(stretches_, settings.longest, settings.seeds, settings.threads);
    pieces_.insert(pieces_.end(), std::make_move_iterator(seeds.begin()), std::make_move_iterator(seeds.end()));
    shorten_stretches();
    double sum = 0;
    for (const auto& [text, count] : pieces_) sum += count;
    for (auto& [text, score] : pieces_) score = std::log(score) - std::log(sum);
  }

  std::vector<ScoredPiece> run() {
    const auto enough = static_cast<std::size_t>(kRoomToPrune * static_cast<double>(settings_.size));
    build_trie();
    for (;;) {
      for (unsigned i = 0; i < settings_.rounds_of_em; ++i) improve(true);
      drop_impossible();
      if (pieces_.size() <= enough) break;
      prune(enough);
    }
    finish();
    std::vector<ScoredPiece> found;
    for (const auto& [text, score] : pieces_) found.push_back({text, score});
    std::stable_sort(found.begin(), found.end(),
                     [](const ScoredPiece& a, const ScoredPiece& b) { return a.score > b.score; });
    return found;
  }

 private:
  // The words without the characters that are no pieces, in one block of memory.
  void cut_into_stretches(const WordCounts& words, const std::vector<std::pair<std::string, double>>& characters) {
    std::unordered_set<std::string_view> known;
    for (const auto& [character, count] : characters) known.insert(character);
    struct Place {
      std::size_t from, size;
      double count;
    };
    std::vector<Place> places;
    text_.reserve(words.bytes());
    words.for_each([&](std::string_view word, std::uint64_t count) {
      std::size_t from = text_.size();
      const auto close = [&] {
        if (from < text_.size()) places.push_back({from, text_.size() - from, static_cast<double>(count)});
        from = text_.size();
      };
      each_character(word, [&](std::string_view character) {
        if (known.contains(character))
          text_.append(character);
        else
          close();
      });
      close();
    });
    stretches_.reserve(places.size());
    for (const Place& place : places)
      stretches_.push_back({std::string_view(text_).substr(place.from, place.size), place.count});
  }

  void shorten_stretches() {
    std::vector<Stretch> shorter;
    shorter.reserve(stretches_.size());
    for (const Stretch& stretch : stretches_) {
      for (std::size_t from = 0, to = 0; from < stretch.text.size(); from = to) {
        to = std::min(stretch.text.size(), from + kLongestStretch);
        while (to < stretch.text.size() && (static_cast<std::uint8_t>(stretch.text[to]) & 0xC0) == 0x80) --to;
        shorter.push_back({stretch.text.substr(from, to - from), stretch.count});
      }
    }
    stretches_ = std::move(shorter);
  }

  void build_trie() {
    std::vector<std::pair<std::string, std::uint32_t>> entries;
    entries.reserve(pieces_.size());
    for (std::uint32_t i = 0; i < pieces_.size(); ++i) entries.emplace_back(pieces_[i].first, i);
    trie_ = DoubleArray(std::move(entries));
  }

  // Calls work(share, stretch) for all stretches, those of one share in order and in one thread.
  template <class Work>
  void each_stretch(Work&& work) const {
    parallel_for(kShares, settings_.threads, [&](unsigned, std::size_t share) {
      const std::size_t from = stretches_.size() * share / kShares, to = stretches_.size() * (share + 1) / kShares;
      for (std::size_t i = from; i < to; ++i) work(share, stretches_[i]);
    });
  }

  std::vector<double> sum_of(const std::vector<std::vector<double>>& shares) const {
    std::vector<double> sum(pieces_.size());
    for (const auto& share : shares)
      for (std::size_t i = 0; i < share.size(); ++i) sum[i] += share[i];
    return sum;
  }

  // The pieces that begin at each place of a text.
  struct Lattice {
    struct Edge {
      std::uint32_t from, to, id;
    };
    std::vector<Edge> edges;  // by `from`
    std::vector<double> forward, backward;
    std::vector<std::uint32_t> last;  // edge into each place on the best path

    void read(const DoubleArray& trie, std::string_view text) {
      edges.clear();
      for (std::size_t at = 0; at < text.size(); at += character_length(text, at))
        trie.prefixes(text.data() + at, text.data() + text.size(), [&](std::uint32_t length, std::uint32_t id) {
          edges.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at) + length, id});
        });
    }
  };

  // Adds to `expected` how often each piece is expected in a stretch.
  void expect(const Stretch& stretch, const std::vector<double>& probability, Lattice& lattice,
              std::vector<double>& expected) const {
    const std::size_t size = stretch.text.size();
    lattice.read(trie_, stretch.text);
    lattice.forward.assign(size + 1, 0);
    lattice.backward.assign(size + 1, 0);
    lattice.forward[0] = lattice.backward[size] = 1;
    for (const auto& edge : lattice.edges) lattice.forward[edge.to] += lattice.forward[edge.from] * probability[edge.id];
    const double total = lattice.forward[size];
    if (total < 1e-280) {  // a long row of rare characters: in two halves
      std::size_t half = size / 2;
      while (half > 0 && (static_cast<std::uint8_t>(stretch.text[half]) & 0xC0) == 0x80) --half;
      if (half == 0) return;
      expect({stretch.text.substr(0, half), stretch.count}, probability, lattice, expected);
      expect({stretch.text.substr(half), stretch.count}, probability, lattice, expected);
      return;
    }
    for (std::size_t i = lattice.edges.size(); i-- > 0;) {
      const auto& edge = lattice.edges[i];
      lattice.backward[edge.from] += lattice.backward[edge.to] * probability[edge.id];
    }
    const double weight = stretch.count / total;
    for (const auto& edge : lattice.edges)
      expected[edge.id] += weight * lattice.forward[edge.from] * probability[edge.id] * lattice.backward[edge.to];
  }

  // One step of EM. `sparse`: pieces that are expected too seldom become impossible; single characters never do.
  void improve(bool sparse) {
    std::vector<double> probability(pieces_.size());
    for (std::size_t i = 0; i < pieces_.size(); ++i) probability[i] = std::exp(pieces_[i].second);
    std::vector<std::vector<double>> shares(kShares);
    std::vector<Lattice> lattices(kShares);
    each_stretch([&](std::size_t share, const Stretch& stretch) {
      if (shares[share].empty()) shares[share].resize(pieces_.size());
      expect(stretch, probability, lattices[share], shares[share]);
    });
    std::vector<double> expected = sum_of(shares);
    double sum = 0;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      if (i < required_ || !sparse) expected[i] = std::max(expected[i], kLeastExpected);
      if (expected[i] < kLeastExpected) expected[i] = 0;
      sum += expected[i];
    }
    const double whole = sparse ? digamma(sum) : std::log(sum);
    for (std::size_t i = 0; i < pieces_.size(); ++i)
      pieces_[i].second =
          expected[i] == 0 ? kImpossible : (sparse ? digamma(expected[i]) : std::log(expected[i])) - whole;
  }

  void keep(const std::vector<std::uint32_t>& kept) {
    std::vector<std::pair<std::string, double>> pieces;
    pieces.reserve(kept.size());
    for (const std::uint32_t id : kept) pieces.push_back(std::move(pieces_[id]));
    pieces_ = std::move(pieces);
    build_trie();
  }

  void drop_impossible() {
    std::vector<std::uint32_t> kept;
    for (std::uint32_t id = 0; id < pieces_.size(); ++id)
      if (pieces_[id].second != kImpossible) kept.push_back(id);
    if (kept.size() < pieces_.size()) keep(kept);
  }

  // The best path through a text without one of the pieces: its score, and its pieces from the last to the first.
  double best_path(std::string_view text, std::uint32_t without, Lattice& lattice, std::vector<std::uint32_t>& path) const {
    lattice.read(trie_, text);
    lattice.forward.assign(text.size() + 1, kImpossible);
    lattice.last.assign(text.size() + 1, 0);
    lattice.forward[0] = 0;
    for (std::uint32_t i = 0; i < lattice.edges.size(); ++i) {
      const auto& edge = lattice.edges[i];
      if (edge.id == without) continue;
      const double score = lattice.forward[edge.from] + pieces_[edge.id].second;
      if (score > lattice.forward[edge.to]) {
        lattice.forward[edge.to] = score;
        lattice.last[edge.to] = i;
      }
    }
    path.clear();
    if (lattice.forward[text.size()] == kImpossible) return kImpossible;
    for (std::size_t at = text.size(); at > 0; at = lattice.edges[lattice.last[at]].from)
      path.push_back(lattice.edges[lattice.last[at]].id);
    return lattice.forward[text.size()];
  }

  // Drops the pieces whose loss costs the likelihood of the words least, if each is replaced by the next best path.
  void prune(std::size_t enough) {
    constexpr std::uint32_t kNothing = DoubleArray::kNone;
    std::vector<std::vector<double>> shares(kShares);
    std::vector<Lattice> lattices(kShares);
    std::vector<std::vector<std::uint32_t>> paths(kShares);
    each_stretch([&](std::size_t share, const Stretch& stretch) {
      if (shares[share].empty()) shares[share].resize(pieces_.size());
      best_path(stretch.text, kNothing, lattices[share], paths[share]);
      for (const std::uint32_t id : paths[share]) shares[share][id] += stretch.count;
    });
    const std::vector<double> counts = sum_of(shares);
    const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
    std::vector<double> loss(pieces_.size(), kImpossible);  // as it stands: for the taking
    parallel_for(kShares, settings_.threads, [&](unsigned, std::size_t share) {
      std::vector<std::uint32_t>& path = paths[share];
      for (std::size_t id = std::max(required_, pieces_.size() * share / kShares);
           id < pieces_.size() * (share + 1) / kShares; ++id) {
        if (counts[id] == 0) continue;
        const double other = best_path(pieces_[id].first, static_cast<std::uint32_t>(id), lattices[share], path);
        if (other >= pieces_[id].second) continue;
        const double all = std::log(sum + counts[id] * (static_cast<double>(path.size()) - 1));
        double replaced = 0;
        for (const std::uint32_t part : path) replaced += std::log(counts[part] + counts[id]) - all;
        loss[id] = counts[id] * (std::log(counts[id]) - std::log(sum) - replaced);
      }
    });
    std::vector<std::uint32_t> candidates;
    for (std::uint32_t id = static_cast<std::uint32_t>(required_); id < pieces_.size(); ++id)
      if (loss[id] != kImpossible) candidates.push_back(id);
    const std::size_t most =
        std::max(enough, static_cast<std::size_t>(settings_.shrinking * static_cast<double>(pieces_.size())));
    const std::size_t room = most > required_ ? most - required_ : 0;
    if (candidates.size() > room) {
      std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(room), candidates.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return loss[a] != loss[b] ? loss[a] > loss[b] : a < b; });
      candidates.resize(room);
      std::sort(candidates.begin(), candidates.end());
    }
    std::vector<std::uint32_t> kept(required_);
    std::iota(kept.begin(), kept.end(), 0u);
    kept.insert(kept.end(), candidates.begin(), candidates.end());
    keep(kept);
  }

  // The last few are dropped by their probability, and the others once more fitted to the words.
  void finish() {
    if (pieces_.size() > settings_.size) {
      std::vector<std::uint32_t> kept(pieces_.size());
      std::iota(kept.begin(), kept.end(), 0u);
      std::stable_sort(kept.begin() + static_cast<std::ptrdiff_t>(required_), kept.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return pieces_[a].second > pieces_[b].second; });
      kept.resize(settings_.size);
      keep(kept);
    }
    for (unsigned i = 0; i < settings_.rounds_of_em; ++i) improve(false);
  }

  UnigramSettings settings_;
  std::size_t required_ = 0;  // the first pieces: single characters, which are never dropped
  std::string text_;  // what the stretches lie in
  std::vector<Stretch> stretches_;
  std::vector<std::pair<std::string, double>> pieces_;  // with their scores
  DoubleArray trie_{{}};
};

}  // namespace

std::vector<ScoredPiece> train_unigram(const WordCounts& words, const UnigramSettings& settings) {
  return Trainer(words, settings).run();
}

}  // namespace seedbed::tokenizer

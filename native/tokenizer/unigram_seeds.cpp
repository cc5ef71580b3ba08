// All suffixes of all words are sorted; substrings then lie side by side, and those that are followed by different
// characters are the inner nodes of the suffix tree, which a walk over the common prefixes of neighbours finds
// (Abouelhoda, Kurtz and Ohlebusch, 2004, "Replacing suffix trees with enhanced suffix arrays"). A word that occurs
// often but shares nothing with others is a leaf, and counts too.
//
// Pieces are short, so suffixes are compared no further than the longest piece: no linear-time sort is needed, and the
// words stand in the array once, with their counts as weights, not as often as in the text.
#include "tokenizer/unigram_seeds.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {
namespace {

struct Suffix {
  std::uint32_t stretch, from, to;  // bytes, no more than the longest piece
};

bool begins_character(char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; }

class Suffixes {
 public:
  Suffixes(const std::vector<Stretch>& stretches, std::size_t longest, unsigned threads) : stretches_(stretches) {
    if (stretches.size() >= std::uint32_t(~0u)) throw std::length_error("more than 2^32 words");
    std::vector<std::uint32_t> starts;
    for (std::uint32_t i = 0; i < stretches.size(); ++i) {
      const std::string_view text = stretches[i].text;
      starts.clear();
      for (std::uint32_t at = 0; at < text.size(); ++at)
        if (begins_character(text[at])) starts.push_back(at);
      starts.push_back(static_cast<std::uint32_t>(text.size()));
      for (std::size_t k = 0; k + 1 < starts.size(); ++k)
        all_.push_back({i, starts[k], starts[std::min(k + longest, starts.size() - 1)]});
    }
    sort(threads);
  }

  std::size_t size() const { return all_.size(); }
  std::string_view text(std::size_t i) const {
    const Suffix& suffix = all_[i];
    return stretches_[suffix.stretch].text.substr(suffix.from, suffix.to - suffix.from);
  }
  double count(std::size_t i) const { return stretches_[all_[i].stretch].count; }

 private:
  // By the first two bytes into buckets, which are then sorted on their own.
  void sort(unsigned threads) {
    const auto bucket_of = [&](const Suffix& suffix) {
      const char* p = stretches_[suffix.stretch].text.data() + suffix.from;
      const auto first = static_cast<std::uint8_t>(p[0]);
      const std::uint8_t second = suffix.to - suffix.from > 1 ? static_cast<std::uint8_t>(p[1]) : 0;
      return std::size_t{first} << 8 | second;
    };
    std::vector<std::size_t> starts((std::size_t{1} << 16) + 1);
    for (const Suffix& suffix : all_) ++starts[bucket_of(suffix) + 1];
    for (std::size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    std::vector<Suffix> sorted(all_.size());
    std::vector<std::size_t> next(starts.begin(), starts.end() - 1);
    for (const Suffix& suffix : all_) sorted[next[bucket_of(suffix)]++] = suffix;
    all_ = std::move(sorted);
    parallel_for(next.size(), threads, [&](unsigned, std::size_t bucket) {
      std::sort(all_.begin() + static_cast<std::ptrdiff_t>(starts[bucket]),
                all_.begin() + static_cast<std::ptrdiff_t>(starts[bucket + 1]), [&](const Suffix& a, const Suffix& b) {
                  const std::string_view left = stretches_[a.stretch].text.substr(a.from, a.to - a.from);
                  const std::string_view right = stretches_[b.stretch].text.substr(b.from, b.to - b.from);
                  const int order = left.compare(right);
                  return order != 0 ? order < 0 : a.stretch != b.stretch ? a.stretch < b.stretch : a.from < b.from;
                });
    });
  }

  const std::vector<Stretch>& stretches_;
  std::vector<Suffix> all_;
};

// Bytes that two texts begin with in common, whole characters only.
std::size_t common_prefix(std::string_view a, std::string_view b) {
  std::size_t length = 0;
  const std::size_t most = std::min(a.size(), b.size());
  while (length < most && a[length] == b[length]) ++length;
  while (length > 0 && ((length < a.size() && !begins_character(a[length])) ||
                        (length < b.size() && !begins_character(b[length]))))
    --length;
  return length;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// Keeps the `most` best of what it is given.
class Best {
 public:
  struct Candidate {
    std::string_view text;
    double count, worth;
    bool operator<(const Candidate& other) const {
      return worth != other.worth ? worth > other.worth : text < other.text;
    }
  };
  explicit Best(std::size_t most) : most_(std::max<std::size_t>(most, 1)) {}
  void offer(std::string_view text, double count) {
    const std::size_t length = characters(text);
    if (length < 2 || count < 2) return;
    candidates_.push_back({text, count, count * static_cast<double>(length)});
    if (candidates_.size() >= 2 * most_) cut();
  }
  std::vector<Candidate> take() {
    cut();
    std::sort(candidates_.begin(), candidates_.end());
    return std::move(candidates_);
  }

 private:
  void cut() {
    if (candidates_.size() <= most_) return;
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(most_), candidates_.end());
    candidates_.resize(most_);
  }
  std::size_t most_;
  std::vector<Candidate> candidates_;
};

}  // namespace

std::vector<std::pair<std::string, double>> frequent_substrings(const std::vector<Stretch>& stretches,
                                                                std::size_t longest, std::size_t most,
                                                                unsigned threads) {
  const Suffixes suffixes(stretches, longest, threads);
  struct Node {  // suffixes that share `depth` bytes, so far
    std::size_t depth, any;
    double count;
  };
  std::vector<Node> open;
  Best best(most);
  std::size_t before = 0;  // bytes shared with the suffix before
  for (std::size_t i = 0; i < suffixes.size(); ++i) {
    const std::string_view text = suffixes.text(i);
    const std::size_t after = i + 1 < suffixes.size() ? common_prefix(text, suffixes.text(i + 1)) : 0;
    if (text.size() > std::max(before, after)) best.offer(text, suffixes.count(i));
    // The suffix belongs to every node on the way down to what it shares with its neighbours.
    if (after > before) open.push_back({after, i, 0});
    if (!open.empty()) open.back().count += suffixes.count(i);
    while (!open.empty() && open.back().depth > after) {
      const Node node = open.back();
      open.pop_back();
      best.offer(suffixes.text(node.any).substr(0, node.depth), node.count);
      if (after > 0 && (open.empty() || open.back().depth < after)) {
        open.push_back({after, node.any, node.count});
      } else if (!open.empty()) {
        open.back().count += node.count;
      }
    }
    before = after;
  }
  std::vector<std::pair<std::string, double>> found;
  for (const Best::Candidate& candidate : best.take()) found.emplace_back(candidate.text, candidate.count);
  return found;
}

}  // namespace seedbed::tokenizer

#include "text/suffix_array.hpp"

#include <algorithm>
#include <stdexcept>

namespace seedbed::text {
namespace {

using Places = std::vector<std::int32_t>;

// Sorts the suffixes of text[0, size), whose symbols are below `symbols`, given the order of the leftmost-S ones.
template <class Symbol>
class Sorter {
 public:
  Sorter(const Symbol* text, std::int32_t size, std::int32_t symbols)
      : text_(text), size_(size), starts_(static_cast<std::size_t>(symbols) + 1), smaller_(static_cast<std::size_t>(size)) {
    for (std::int32_t i = 0; i < size; ++i) ++starts_[at(i) + 1];
    for (std::size_t c = 1; c < starts_.size(); ++c) starts_[c] += starts_[c - 1];
    // A suffix is of type S where it is smaller than the next one; the last is of type L.
    for (std::int32_t i = size - 2; i >= 0; --i)
      smaller_[index(i)] = text[i] < text[i + 1] || (text[i] == text[i + 1] && smaller_[index(i + 1)]);
    for (std::int32_t i = 1; i < size; ++i)
      if (leftmost(i)) leftmosts_.push_back(i);
  }

  Places sort() {
    Places order(static_cast<std::size_t>(size_));
    induce(leftmosts_, order);
    if (leftmosts_.size() < 2) return order;
    Places sorted;
    sorted.reserve(leftmosts_.size());
    for (const std::int32_t i : order)
      if (i > 0 && leftmost(i)) sorted.push_back(i);
    order = Places();
    name(sorted);
    induce(sorted, order = Places(static_cast<std::size_t>(size_)));
    return order;
  }

 private:
  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  std::size_t at(std::int32_t i) const { return static_cast<std::size_t>(text_[i]); }
  bool leftmost(std::int32_t i) const { return smaller_[index(i)] && !smaller_[index(i - 1)]; }

  // From the leftmost-S suffixes in some order all others: L from the left, S from the right.
  void induce(const Places& leftmosts, Places& order) const {
    constexpr std::int32_t kEmpty = -1;
    std::fill(order.begin(), order.end(), kEmpty);
    Places next(starts_.begin() + 1, starts_.end());
    for (auto i = leftmosts.rbegin(); i != leftmosts.rend(); ++i) order[index(--next[at(*i)])] = *i;
    std::copy(starts_.begin(), starts_.end() - 1, next.begin());
    order_l(size_ - 1, order, next);
    for (std::int32_t k = 0; k < size_; ++k)
      if (order[index(k)] > 0 && !smaller_[index(order[index(k)] - 1)]) order_l(order[index(k)] - 1, order, next);
    std::copy(starts_.begin() + 1, starts_.end(), next.begin());
    for (std::int32_t k = size_ - 1; k >= 0; --k) {
      const std::int32_t i = order[index(k)];
      if (i > 0 && smaller_[index(i - 1)]) order[index(--next[at(i - 1)])] = i - 1;
    }
  }
  void order_l(std::int32_t i, Places& order, Places& next) const { order[index(next[at(i)]++)] = i; }

  // Brings the leftmost-S suffixes, sorted so far by the stretch to the next one, into their full order.
  void name(Places& sorted) const {
    Places rank(static_cast<std::size_t>(size_) / 2 + 1, -1);  // no two leftmosts are neighbours
    std::int32_t names = 0;
    for (std::size_t k = 0; k < sorted.size(); ++k) {
      if (k && !same_stretch(sorted[k - 1], sorted[k])) ++names;
      rank[index(sorted[k]) / 2] = names;
    }
    Places reduced;
    reduced.reserve(leftmosts_.size());
    for (const std::int32_t i : leftmosts_) reduced.push_back(rank[index(i) / 2]);
    rank = Places();
    const auto count = static_cast<std::int32_t>(reduced.size());
    if (names + 1 == count) {
      for (std::int32_t k = 0; k < count; ++k) sorted[index(reduced[index(k)])] = leftmosts_[index(k)];
    } else {
      const Places inner = Sorter<std::int32_t>(reduced.data(), count, names + 1).sort();
      for (std::int32_t k = 0; k < count; ++k) sorted[index(k)] = leftmosts_[index(inner[index(k)])];
    }
  }

  bool same_stretch(std::int32_t a, std::int32_t b) const {
    for (std::int32_t k = 0;; ++k) {
      if (a + k >= size_ || b + k >= size_ || text_[a + k] != text_[b + k] ||
          smaller_[index(a + k)] != smaller_[index(b + k)])
        return false;
      if (k > 0 && (leftmost(a + k) || leftmost(b + k))) return leftmost(a + k) && leftmost(b + k);
    }
  }

  const Symbol* text_;
  std::int32_t size_;
  Places starts_;  // of each symbol's suffixes in the order
  std::vector<bool> smaller_;
  Places leftmosts_;
};

}  // namespace

std::vector<std::int32_t> suffix_array(std::string_view text) {
  if (text.size() >= std::size_t{1} << 31) throw std::length_error("a suffix array of 2 GiB or more");
  if (text.empty()) return {};
  return Sorter<std::uint8_t>(reinterpret_cast<const std::uint8_t*>(text.data()), static_cast<std::int32_t>(text.size()),
                              256)
      .sort();
}

}  // namespace seedbed::text

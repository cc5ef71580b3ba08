#include "tokenizer/double_array.hpp"

#include <algorithm>
#include <stdexcept>

namespace seedbed::tokenizer {

// The free slots of an array that is being made, as a list in their order; it grows as they are asked for.
class DoubleArray::Slots {
 public:
  Slots() { grow(512); }
  std::size_t size() const { return next_.size(); }
  bool is_free(std::size_t slot) const { return previous_[slot] != kTaken; }
  void take(std::size_t slot) {
    next_[previous_[slot]] = next_[slot];
    previous_[next_[slot]] = previous_[slot];
    previous_[slot] = kTaken;
    end_ = std::max(end_, slot + 1);
  }

  // Where children with these labels (rising) fit that no other node has. Only so many free slots are tried, as few
  // holes take a node of many children, while those of one child fill them all.
  std::uint32_t base_for(const std::vector<std::uint8_t>& labels) {
    constexpr int kMostTries = 32;
    std::size_t slot = next_[0];
    for (int tries = 0; tries < kMostTries && slot < end_; slot = next_[slot]) {
      if (slot <= labels[0]) continue;
      ++tries;
      if (const std::size_t base = slot - labels[0]; fits(base, labels)) return occupied(base);
    }
    slot = std::max<std::size_t>(end_, labels[0] + std::size_t{1});
    while (is_base_[slot - labels[0]]) ++slot;
    return occupied(slot - labels[0]);
  }

 private:
  static constexpr std::uint32_t kTaken = ~std::uint32_t{0};
  bool fits(std::size_t base, const std::vector<std::uint8_t>& labels) const {
    return !is_base_[base] && std::all_of(labels.begin(), labels.end(), [&](std::uint8_t label) { return is_free(base + label); });
  }
  std::uint32_t occupied(std::size_t base) {
    if (base >= std::size_t{1} << 31) throw std::length_error("a vocabulary of over 2^31 bytes");
    is_base_[base] = true;
    if (base + 512 > size()) grow(2 * size());
    return static_cast<std::uint32_t>(base);
  }
  // Slot 0 is the root's and the head of the list, which is a ring.
  void grow(std::size_t slots) {
    const std::size_t before = size();
    next_.resize(slots);
    previous_.resize(slots);
    is_base_.resize(slots);
    for (std::size_t slot = before; slot < slots; ++slot) {
      const std::uint32_t last = slot == 0 ? 0 : previous_[0];
      next_[last] = static_cast<std::uint32_t>(slot);
      previous_[slot] = last;
      next_[slot] = 0;
      previous_[0] = static_cast<std::uint32_t>(slot);
    }
  }
  std::vector<std::uint32_t> next_, previous_;
  std::vector<std::uint8_t> is_base_;
  std::size_t end_ = 1;  // all slots from here on are free
};

DoubleArray::DoubleArray(std::vector<Entry> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.first < b.first; });
  std::vector<Entry> unique;
  unique.reserve(entries.size());
  for (Entry& entry : entries) {
    if (entry.first.empty()) continue;
    if (!unique.empty() && unique.back().first == entry.first)
      unique.back().second = entry.second;
    else
      unique.push_back(std::move(entry));
  }
  place(unique);
}

void DoubleArray::resize(std::size_t slots) {
  nodes_.resize(slots);
  values_.resize(slots, kNone);
  labels_.resize(slots, 0xFF);  // no byte of UTF-8
}

// Breadth first over the sorted keys: those that share a prefix lie side by side, [from, to) for each node.
void DoubleArray::place(const std::vector<Entry>& entries) {
  struct Pending {
    std::uint32_t node;
    std::size_t from, to, depth;
  };
  Slots slots;
  resize(slots.size());
  std::vector<Pending> row{{0, 0, entries.size(), 0}}, next;
  std::vector<std::uint8_t> labels;
  while (!row.empty()) {
    next.clear();
    for (Pending here : row) {
      if (here.from < here.to && entries[here.from].first.size() == here.depth) {
        nodes_[here.node] = 1;
        values_[here.node] = entries[here.from++].second;
      }
      labels.clear();
      for (std::size_t i = here.from; i < here.to; ++i) {
        const auto label = static_cast<std::uint8_t>(entries[i].first[here.depth]);
        if (labels.empty() || labels.back() != label) labels.push_back(label);
      }
      if (labels.empty()) continue;
      const std::uint32_t base = slots.base_for(labels);
      if (nodes_.size() < slots.size()) resize(slots.size());
      nodes_[here.node] |= base << 1;
      std::size_t from = here.from;
      for (const std::uint8_t label : labels) {
        slots.take(base + label);
        labels_[base + label] = label;
        std::size_t to = from;
        while (to < here.to && static_cast<std::uint8_t>(entries[to].first[here.depth]) == label) ++to;
        next.push_back({base + label, from, to, here.depth + 1});
        from = to;
      }
    }
    std::swap(row, next);
  }
}

}  // namespace seedbed::tokenizer

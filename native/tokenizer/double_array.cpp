#include "tokenizer/double_array.hpp"

#include <algorithm>
#include <stdexcept>

namespace seedbed::tokenizer {

DoubleArray::DoubleArray(std::vector<Entry> entries) : nodes_(512) {
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

// Breadth first over the sorted keys: those that share a prefix lie side by side, [from, to) for each node.
void DoubleArray::place(const std::vector<Entry>& entries) {
  struct Pending {
    std::uint32_t node;
    std::size_t from, to, depth;
  };
  nodes_[0].parent = 0;  // taken
  std::vector<Pending> row{{0, 0, entries.size(), 0}}, next;
  std::vector<std::uint8_t> bytes;
  while (!row.empty()) {
    next.clear();
    for (Pending here : row) {
      if (here.from < here.to && entries[here.from].first.size() == here.depth)
        nodes_[here.node].value = entries[here.from++].second;
      bytes.clear();
      for (std::size_t i = here.from; i < here.to; ++i) {
        const auto byte = static_cast<std::uint8_t>(entries[i].first[here.depth]);
        if (bytes.empty() || bytes.back() != byte) bytes.push_back(byte);
      }
      if (bytes.empty()) continue;
      const std::uint32_t base = free_base(bytes);
      nodes_[here.node].base = base;
      std::size_t from = here.from;
      for (const std::uint8_t byte : bytes) {
        nodes_[base + byte].parent = here.node;
        std::size_t to = from;
        while (to < here.to && static_cast<std::uint8_t>(entries[to].first[here.depth]) == byte) ++to;
        next.push_back({base + byte, from, to, here.depth + 1});
        from = to;
      }
    }
    std::swap(row, next);
  }
}

// The first place where all children fit. Where hardly anything is free, later searches do not look again.
std::uint32_t DoubleArray::free_base(const std::vector<std::uint8_t>& bytes) {
  std::size_t taken = 0, looked = 0;
  for (std::size_t at = std::max<std::size_t>(first_free_, bytes[0] + std::size_t{1});; ++at) {
    if (at + 512 > nodes_.size()) nodes_.resize(nodes_.size() * 2);
    ++looked;
    if (nodes_[at].parent != kNone) {
      ++taken;
      continue;
    }
    const std::size_t base = at - bytes[0];
    if (!std::all_of(bytes.begin(), bytes.end(), [&](std::uint8_t byte) { return nodes_[base + byte].parent == kNone; }))
      continue;
    if (base + 256 >= kNone) throw std::length_error("a vocabulary of over 2^32 bytes");
    if (looked > 64 && taken * 20 >= looked * 19) first_free_ = at;
    return static_cast<std::uint32_t>(base);
  }
}

}  // namespace seedbed::tokenizer

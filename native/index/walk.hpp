// Walks through graphs of links: the greedy one (Algorithm 2 of HNSW's paper), the filtered one, and what both need.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace seedbed::index {

using Slot = std::uint32_t;
inline constexpr Slot kNone = 0xFFFFFFFFu;
inline constexpr std::size_t kMaxSlots = 0x7FFFFFF0u;
inline constexpr Slot kExpanded = 0x80000000u;

struct Near {
  float distance;  // smaller is closer, whatever the metric
  Slot slot;
  bool operator<(const Near& other) const {
    return distance < other.distance || (distance == other.distance && slot < other.slot);
  }
};

// What one walk needs besides the graph; kept and used again, since clearing it would cost more than a walk.
struct WalkSpace {
  std::vector<std::uint16_t> visited;
  std::uint16_t epoch = 0;
  std::vector<Near> pool;                 // sorted; during a walk the top bit of a slot marks an expanded entry
  std::vector<Near> candidates, results;  // heaps of the filtered walk
  std::vector<Slot> fresh, buffer;
  std::vector<float> values;

  void start(std::size_t slots) {
    if (visited.size() < slots) visited.resize(slots, 0);
    if (++epoch == 0) {
      std::fill(visited.begin(), visited.end(), std::uint16_t{0});
      epoch = 1;
    }
  }
  bool visit(Slot slot) {
    if (visited[slot] == epoch) return false;
    visited[slot] = epoch;
    return true;
  }
  // The links around a slot that the walk has not seen yet, in `fresh`.
  void see(const Slot* around, std::size_t degree) {
    fresh.clear();
    for (std::size_t i = 0; i < degree && around[i] != kNone; ++i)
      if (visit(around[i])) fresh.push_back(around[i]);
  }
};

// Spaces that wait to be used again, each by one thread at a time.
template <class Space>
class Spaces {
 public:
  std::unique_ptr<Space> borrow() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Space>();
    auto one = std::move(idle_.back());
    idle_.pop_back();
    return one;
  }
  void give_back(std::unique_ptr<Space> space) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(space));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Space>> idle_;
};

// Puts `one` into the sorted pool of at most `width` entries and says where, or returns the pool's size.
inline std::size_t enter(std::vector<Near>& pool, std::size_t width, Near one) {
  if (pool.size() >= width) {
    if (!(one.distance < pool.back().distance)) return pool.size();
    pool.pop_back();
  }
  // A binary search without branches: half of them could not be foreseen.
  std::size_t place = 0;
  for (std::size_t left = pool.size(); left > 1; left -= left / 2)
    place += static_cast<std::size_t>(!(one.distance < pool[place + left / 2 - 1].distance)) * (left / 2);
  if (!pool.empty()) place += static_cast<std::size_t>(!(one.distance < pool[place].distance));
  pool.insert(pool.begin() + static_cast<std::ptrdiff_t>(place), one);
  return place;
}

// Puts `one` into a heap of the `width` closest, the farthest of them in front.
inline void keep_closest(std::vector<Near>& heap, std::size_t width, Near one) {
  if (heap.size() >= width && !(one < heap.front())) return;
  heap.push_back(one);
  std::push_heap(heap.begin(), heap.end());
  if (heap.size() <= width) return;
  std::pop_heap(heap.begin(), heap.end());
  heap.pop_back();
}

// Leaves the `width` closest slots found in walk.pool, sorted. `values(slots, out)` scores slots; `links_of(slot,
// buffer)` gives a slot's links: in place, or copied under a lock into the buffer; `expect(slot)` hears whose links are
// probably wanted next. The caller has called walk.start().
// One sorted array serves as both heaps of the paper: at these sizes moving a few entries is cheaper than sifting.
template <class Values, class Links, class Expect>
void walk_graph(std::span<const Near> starts, std::size_t width, std::size_t degree, WalkSpace& walk, const Values& values,
                const Links& links_of, const Expect& expect) {
  std::vector<Near>& pool = walk.pool;
  pool.assign(starts.begin(), starts.end());
  for (const Near& one : starts) walk.visit(one.slot);
  std::sort(pool.begin(), pool.end());
  if (pool.size() > width) pool.resize(width);
  walk.values.resize(std::max(walk.values.size(), degree));
  walk.buffer.resize(std::max(walk.buffer.size(), degree));
  std::size_t next = 0;
  while (next < pool.size()) {
    if (pool[next].slot & kExpanded) {
      ++next;
      continue;
    }
    const Slot current = pool[next].slot;
    pool[next].slot |= kExpanded;
    std::size_t then = next + 1;
    while (then < pool.size() && (pool[then].slot & kExpanded)) ++then;
    if (then < pool.size()) expect(pool[then].slot);
    walk.see(links_of(current, walk.buffer.data()), degree);
    values(std::span<const Slot>(walk.fresh), walk.values.data());
    std::size_t lowest = next + 1;
    for (std::size_t i = 0; i < walk.fresh.size(); ++i)
      lowest = std::min(lowest, enter(pool, width, {walk.values[i], walk.fresh[i]}));
    next = lowest;
  }
  for (Near& one : pool) one.slot &= ~kExpanded;
}

// The same with only `admitted(slot)` ones among the results: the others are walked through but fill no place, so that a
// filter costs time, not recall. Leaves the `width` closest in walk.results, sorted.
template <class Values, class Links, class Admitted>
void walk_filtered(Near start, std::size_t width, std::size_t degree, WalkSpace& walk, const Values& values,
                   const Links& links_of, const Admitted& admitted) {
  const auto closest_first = [](const Near& a, const Near& b) { return b < a; };
  std::vector<Near>&candidates = walk.candidates, &results = walk.results;
  candidates.assign(1, start);
  results.clear();
  walk.visit(start.slot);
  if (admitted(start.slot)) results.push_back(start);
  walk.values.resize(std::max(walk.values.size(), degree));
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), closest_first);
    const Near current = candidates.back();
    candidates.pop_back();
    if (results.size() >= width && current.distance > results.front().distance) break;
    walk.see(links_of(current.slot), degree);
    values(std::span<const Slot>(walk.fresh), walk.values.data());
    for (std::size_t i = 0; i < walk.fresh.size(); ++i) {
      const Near next{walk.values[i], walk.fresh[i]};
      if (results.size() >= width && !(next < results.front())) continue;
      candidates.push_back(next);
      std::push_heap(candidates.begin(), candidates.end(), closest_first);
      if (admitted(next.slot)) keep_closest(results, width, next);
    }
  }
  std::sort(results.begin(), results.end());
}

// The `keep` closest of all `slots`, sorted, in walk.results.
template <class Values>
void scan_slots(std::span<const Slot> slots, std::size_t keep, WalkSpace& walk, const Values& values) {
  constexpr std::size_t block = 1024;
  walk.results.clear();
  walk.values.resize(std::max(walk.values.size(), block));
  for (std::size_t start = 0; start < slots.size(); start += block) {
    const auto some = slots.subspan(start, std::min(block, slots.size() - start));
    values(some, walk.values.data());
    for (std::size_t i = 0; i < some.size(); ++i) keep_closest(walk.results, keep, {walk.values[i], some[i]});
  }
  std::sort(walk.results.begin(), walk.results.end());
}

// Lists of links: `width` places, those behind the last link hold kNone.

inline std::size_t link_count(const Slot* links, std::size_t width) {
  return static_cast<std::size_t>(std::find(links, links + width, kNone) - links);
}

inline void set_links(Slot* links, std::size_t width, std::span<const Near> near) {
  std::fill_n(links, width, kNone);
  for (std::size_t i = 0; i < near.size(); ++i) links[i] = near[i].slot;
}

// As many of `near` as there is room for, beside the links that are there already.
inline void add_links(Slot* links, std::size_t width, std::span<const Near> near) {
  std::size_t count = link_count(links, width);
  for (const Near& one : near)
    if (count < width && std::find(links, links + count, one.slot) == links + count) links[count++] = one.slot;
}

// Makes sure of one link: where there is no room, the last place, the farthest or the newest, is taken.
inline void force_link(Slot* links, std::size_t width, Slot to) {
  std::size_t at = 0;
  while (at + 1 < width && links[at] != kNone && links[at] != to) ++at;
  links[at] = to;
}

// Gives links their slots' new names; those of kNone go.
inline void rename_links(Slot* links, std::size_t width, const std::vector<Slot>& renamed) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < width && links[i] != kNone; ++i)
    if (renamed[links[i]] != kNone) links[count++] = renamed[links[i]];
  std::fill(links + count, links + width, kNone);
}

}  // namespace seedbed::index

// The greedy walk (Algorithm 2 of HNSW's paper), shared by construction and by searches that score single points.
#pragma once
#include <algorithm>

#include "index/graph.hpp"

namespace seedbed::index {

inline constexpr Slot kExpanded = 0x80000000u;

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

// Leaves the `width` closest slots found in walk.pool, sorted. `values(slots, out)` scores slots; `links_of(slot,
// buffer)` gives a slot's links: in place, or copied under a lock into the buffer. The caller has called walk.start().
// One sorted array serves as both heaps of the paper: at these sizes moving a few entries is cheaper than sifting.
template <class Values, class Links>
void walk_graph(Near start, std::size_t width, std::size_t degree, Walk& walk, const Values& values,
                const Links& links_of) {
  std::vector<Near>& pool = walk.pool;
  pool.assign(1, start);
  walk.visit(start.slot);
  walk.values.resize(degree);
  walk.buffer.resize(degree);
  std::size_t next = 0;
  while (next < pool.size()) {
    if (pool[next].slot & kExpanded) {
      ++next;
      continue;
    }
    const Slot current = pool[next].slot;
    pool[next].slot |= kExpanded;
    const Slot* around = links_of(current, walk.buffer.data());
    walk.fresh.clear();
    for (std::size_t i = 0; i < degree && around[i] != kNone; ++i)
      if (walk.visit(around[i])) walk.fresh.push_back(around[i]);
    values(std::span<const Slot>(walk.fresh), walk.values.data());
    std::size_t lowest = next + 1;
    for (std::size_t i = 0; i < walk.fresh.size(); ++i)
      lowest = std::min(lowest, enter(pool, width, {walk.values[i], walk.fresh[i]}));
    next = lowest;
  }
  for (Near& one : pool) one.slot &= ~kExpanded;
}

}  // namespace seedbed::index

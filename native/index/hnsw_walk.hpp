// The walk over one layer (Algorithm 2 of the paper), shared by search and construction.
#pragma once
#include <algorithm>

#include "index/hnsw.hpp"

namespace seedbed::index {

// Leaves the `ef` closest slots found in scratch.pool, sorted. `links_of(slot, level, buffer)` gives a slot's
// links: in place, or copied under a lock into the buffer. The caller has called scratch.start().
// One sorted array serves as both heaps of the paper: at these sizes moving a few entries is cheaper than sifting.
template <class Links>
void Hnsw::search_layer(const Distance& kernel, const float* query, std::span<const Near> starts, int level,
                        std::size_t ef, Scratch& scratch, const Links& links_of) const {
  constexpr Slot expanded = 0x80000000u;
  const std::size_t width = this->width(level);
  std::vector<Near>& pool = scratch.pool;
  pool.assign(starts.begin(), starts.end());
  for (const Near& one : starts) scratch.visit(one.slot);
  std::sort(pool.begin(), pool.end());
  if (pool.size() > ef) pool.resize(ef);
  std::vector<float>& distances = scratch.distances;
  distances.resize(width);
  scratch.buffer.resize(width);

  std::size_t next = 0;
  while (next < pool.size()) {
    if (pool[next].slot & expanded) {
      ++next;
      continue;
    }
    const Slot current = pool[next].slot;
    pool[next].slot |= expanded;
    const Slot* around = links_of(current, level, scratch.buffer.data());
    scratch.fresh.clear();
    for (std::size_t i = 0; i < width && around[i] != kNone; ++i)
      if (scratch.visit(around[i])) scratch.fresh.push_back(around[i]);
    distances_to(kernel, query, scratch.fresh, distances.data());

    std::size_t lowest = next + 1;
    for (std::size_t i = 0; i < scratch.fresh.size(); ++i) {
      const float d = distances[i];
      if (pool.size() >= ef) {
        if (d >= pool.back().distance) continue;
        pool.pop_back();
      }
      const auto place = std::upper_bound(pool.begin(), pool.end(), d,
                                          [](float value, const Near& other) { return value < other.distance; });
      lowest = std::min(lowest, static_cast<std::size_t>(place - pool.begin()));
      pool.insert(place, Near{d, scratch.fresh[i]});
    }
    next = lowest;
    if (next < pool.size()) __builtin_prefetch(links(pool[next].slot & ~expanded, level));
  }
  for (Near& one : pool) one.slot &= ~expanded;
}

}  // namespace seedbed::index

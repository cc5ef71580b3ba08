// The walks from the entry point down and over one layer (Algorithm 2 of the paper), shared by search and construction.
#pragma once
#include "index/hnsw.hpp"

namespace seedbed::index {

template <class Seen>
Near Hnsw::descend(const Distance& kernel, const float* query, int until, const Seen& seen) const {
  Near best{distance(kernel, query, row(entry_)), entry_};
  seen(entry_, kNone, levels_[entry_], best.distance);
  for (int level = levels_[entry_]; level > until; --level)
    for (bool moved = true; moved;) {
      moved = false;
      const Slot from = best.slot;
      const Slot* around = links(from, level);
      for (std::size_t i = 0; i < m_ && around[i] != kNone; ++i) {
        const float d = distance(kernel, query, row(around[i]));
        seen(around[i], from, level, d);
        if (d < best.distance) {
          best = {d, around[i]};
          moved = true;
        }
      }
    }
  return best;
}

// Leaves the `ef` closest slots found in scratch.pool, sorted. `links_of(slot, level, buffer)` gives a slot's links: in
// place, or copied under a lock into the buffer. The caller has called scratch.start().
template <class Links>
void Hnsw::search_layer(const Distance& kernel, const float* query, std::span<const Near> starts, int level,
                        std::size_t ef, Scratch& scratch, const Links& links_of) const {
  walk_graph(
      starts, ef, width(level), scratch,
      [&](std::span<const Slot> slots, float* out) { distances_to(kernel, query, slots, out); },
      [&](Slot slot, Slot* buffer) { return links_of(slot, level, buffer); },
      [&](Slot slot) { __builtin_prefetch(links(slot, level)); });
}

}  // namespace seedbed::index

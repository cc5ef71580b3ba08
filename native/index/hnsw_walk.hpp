// The walk over one layer (Algorithm 2 of the paper), shared by search and construction.
#pragma once
#include "index/hnsw.hpp"

namespace seedbed::index {

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

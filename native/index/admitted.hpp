// What a filter lets through, of an index whose slots are found by labels.
#pragma once
#include <cstdint>
#include <vector>

#include "index/storage.hpp"

namespace seedbed::index {

struct Admitted {
  std::vector<std::uint8_t> mask;    // by slot
  std::vector<std::uint32_t> slots;  // each once, in the filter's order
};

// Labels that are unknown or repeated count nothing.
inline Admitted admitted(const std::vector<std::int64_t>& allowed, const LabelMap& map, const Array<std::int64_t>& labels) {
  Admitted found;
  found.mask.assign(labels.size(), 0);
  for (std::int64_t label : allowed) {
    const std::uint32_t slot = map.find(label, labels.data());
    if (slot == LabelMap::kNone || found.mask[slot]) continue;
    found.mask[slot] = 1;
    found.slots.push_back(slot);
  }
  return found;
}

}  // namespace seedbed::index

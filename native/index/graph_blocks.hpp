// A slot's blocks in memory: for each 32 links the neighbours' one-bit codes, their factors and their slots.
#pragma once
#include <limits>

#include "index/graph.hpp"

namespace seedbed::index {

struct BlockLayout {
  std::size_t codes;  // bytes of the codes of one block
  std::size_t add() const { return codes; }
  std::size_t scale() const { return add() + rabitq::kBlock * sizeof(float); }
  std::size_t slots() const { return scale() + rabitq::kBlock * sizeof(float); }
  std::size_t bytes() const { return slots() + rabitq::kBlock * sizeof(Slot); }
};

inline BlockLayout block_layout(std::size_t dim) { return {rabitq::block_bytes(simd::padded(dim))}; }

template <class Byte>
struct BlockView {  // Byte is std::uint8_t, const or not
  Byte* at;
  BlockLayout layout;
  template <class T>
  using Like = std::conditional_t<std::is_const_v<Byte>, const T, T>;
  Byte* codes() const { return at; }
  Like<float>* add() const { return reinterpret_cast<Like<float>*>(at + layout.add()); }
  Like<float>* scale() const { return reinterpret_cast<Like<float>*>(at + layout.scale()); }
  Like<Slot>* slots() const { return reinterpret_cast<Like<Slot>*>(at + layout.slots()); }
};

// An empty place is infinitely far, so that no estimate of it is below anything.
inline bool is_empty(const BlockView<const std::uint8_t>& block, std::size_t i) {
  return block.slots()[i] == kNone && block.scale()[i] == 0 && block.add()[i] == std::numeric_limits<float>::infinity();
}

}  // namespace seedbed::index

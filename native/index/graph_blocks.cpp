#include "index/graph_blocks.hpp"

#include <algorithm>
#include <limits>

namespace seedbed::index {
namespace {

void set_member(const BlockView<std::uint8_t>& block, std::size_t i, Slot slot) {
  block.slots()[i] = slot;
  if (slot != kNone) return;
  block.add()[i] = std::numeric_limits<float>::infinity();
  block.scale()[i] = 0.0f;
}

}  // namespace

std::size_t Graph::block_stride(const GraphSettings& settings) {
  return settings.one_bit ? settings.degree / rabitq::kBlock * block_layout(settings.dim).bytes() : 0;
}

void Graph::append_blocks(std::size_t total) {
  if (!block_stride_) return;
  const std::size_t first = blocks_.size() / block_stride_;
  blocks_.resize(total * block_stride_, 0);
  for (std::size_t slot = first; slot < total; ++slot) clear_blocks(static_cast<Slot>(slot));
}

void Graph::clear_blocks(Slot slot) {
  const BlockLayout layout = block_layout(dim());
  for (std::size_t at = 0; at < block_stride_; at += layout.bytes()) {
    const BlockView<std::uint8_t> block{blocks_.writable() + slot * block_stride_ + at, layout};
    for (std::size_t i = 0; i < rabitq::kBlock; ++i) set_member(block, i, kNone);
  }
}

void Graph::rename_blocks(Slot slot, const std::vector<Slot>& renamed) {
  const BlockLayout layout = block_layout(dim());
  for (std::size_t at = 0; at < block_stride_; at += layout.bytes()) {
    const BlockView<std::uint8_t> block{blocks_.writable() + slot * block_stride_ + at, layout};
    for (std::size_t i = 0; i < rabitq::kBlock; ++i)
      set_member(block, i, block.slots()[i] == kNone ? kNone : renamed[block.slots()[i]]);
  }
}

// Brings a slot's blocks up to its links; what has not changed keeps its code.
void Graph::encode_blocks(Slot slot, Walk& walk) {
  const BlockLayout layout = block_layout(dim());
  const Slot* around = links(slot);
  const std::size_t width = points_.width();
  walk.turned.resize(2 * width, 0.0f);
  float *own = walk.turned.writable(), *other = own + width;
  bool decoded = false;
  for (std::size_t at = 0; at < block_stride_; at += layout.bytes(), around += rabitq::kBlock) {
    const BlockView<std::uint8_t> block{blocks_.writable() + slot * block_stride_ + at, layout};
    for (std::size_t i = 0; i < rabitq::kBlock; ++i) {
      if (block.slots()[i] == around[i]) continue;
      set_member(block, i, around[i]);
      if (around[i] == kNone) continue;
      if (!decoded) points_.decode(slot, own);
      decoded = true;
      points_.decode(around[i], other);
      const auto factors =
          rabitq::encode(other, own, width, settings_.metric != Metric::Dot, block.codes(), i);
      block.add()[i] = factors.add;
      block.scale()[i] = factors.scale;
    }
  }
}

}  // namespace seedbed::index

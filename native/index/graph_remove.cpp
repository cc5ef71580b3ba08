#include <algorithm>
#include <stdexcept>

#include "index/graph.hpp"
#include "index/graph_blocks.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kPoor = 4;  // with fewer links a slot is linked in anew

}  // namespace

void Graph::remove(const std::int64_t* ids, std::size_t count) {
  const auto writing = gate_.write();
  detach_all(ids, count, [this] { mend(); }, [this] { rebuild(); });
}

// Links that led to removed slots lead to the links of those, pruned by the heuristic.
void Graph::mend() {
  need_stale();
  auto walk = walks_.borrow();
  std::vector<Slot> around;
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    Slot* own = mutable_links(slot);
    if (removed(slot) || !in_graph(slot)) continue;
    if (!bridged(slot, own, degree(), [this](Slot other) { return links(other); }, around)) continue;
    walk->candidates.clear();
    weigh(slot, around, *walk);
    std::sort(walk->candidates.begin(), walk->candidates.end());
    select(walk->candidates, degree(), *walk);
    set_links(own, degree(), walk->candidates);
    stale_[slot] = 1;
  }
  close_up();
  std::vector<Near> near;
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    if (!in_graph(slot) || link_count(links(slot), degree()) >= kPoor) continue;
    neighbourhood(slot, *walk);  // so few are left that it is linked in as if it were new
    near = walk->pool;
    connect(slot, near, *walk);
  }
  walks_.give_back(std::move(walk));
  reconnect();
  finish(0, labels_.size(), 1);
}

// Moves the kept slots down over the removed ones, in order, and renames every link.
void Graph::close_up() {
  const std::vector<Slot> kept = this->kept(), renamed = renaming(kept, labels_.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Slot from = kept[i];
    if (from != i) {
      points_.move(from, i);
      std::copy_n(links(from), degree(), mutable_links(static_cast<Slot>(i)));
      std::copy_n(blocks_.data() + from * block_stride_, block_stride_, blocks_.writable() + i * block_stride_);
      stale_[i] = stale_[from];
    }
    rename_links(mutable_links(static_cast<Slot>(i)), degree(), renamed);
    rename_blocks(static_cast<Slot>(i), renamed);
  }
  move_names(kept, renamed);
  points_.shrink(kept.size());
  links_.resize(kept.size() * degree(), kNone);
  blocks_.resize(kept.size() * block_stride_, 0);
  stale_.resize(kept.size());
  finished_ = kept.size();
  choose_entries(finished_);
}

// Builds the graph anew of the slots that are left, from their codes.
void Graph::rebuild() {
  need_stale();
  close_up();
  const std::size_t count = labels_.size();
  std::fill_n(links_.writable(), count * degree(), kNone);
  for (Slot slot = 0; slot < count; ++slot) {
    ring_.at(slot) = slot;
    flags_.at(slot) = 0;
    clear_blocks(slot);
    stale_[slot] = 1;
  }
  entries_.resize(0, kNone);
  for (std::size_t start = 0; start < count;) {
    const std::size_t size = std::min(start == 0 ? 1 : kSlice, count - start);
    if (start) choose_entries(start);
    insert_all(static_cast<Slot>(start), size, 1);
    start += size;
  }
  unchecked_ = 0;
  reconnect();
  finish(0, labels_.size(), 1);
}

GraphState Graph::state() const {
  return {points_.state(), labels_.span(),  flags_.span(), blocks_.span(), ring_.span(),
          links_.span(),   entries_.span(), sampled_at_,   unchecked_};
}

void Graph::restore(const GraphState& state) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  };
  const Counts counts = check(state.labels, state.flags, state.ring);
  const std::size_t count = state.labels.size();
  require(state.links.size() == count * degree() && state.blocks.size() == count * block_stride_,
          "the arrays do not belong together");
  require(count == 0 || !state.entries.empty(), "there is no entry");
  require(state.sampled_at <= kMaxSlots && state.unchecked <= kMaxSlots, "a count is out of range");
  require(state.entries.size() <= kEntries, "there are too many entries");
  const BlockLayout layout = block_layout(dim());
  for (std::size_t i = 0; i < count; ++i) {
    const Slot* row = state.links.data() + i * degree();
    for (std::size_t j = 0; j < degree(); ++j) require(row[j] == kNone || row[j] < count, "a link leads outside");
    for (std::size_t at = 0; at < block_stride_; at += layout.bytes()) {
      const BlockView<const std::uint8_t> block{state.blocks.data() + i * block_stride_ + at, layout};
      for (std::size_t j = 0; j < rabitq::kBlock; ++j)
        require(block.slots()[j] < count || is_empty(block, j), "a block leads outside");
    }
  }
  for (Slot entry : state.entries)
    require(entry < count && !(state.flags[entry] & kAlias), "an entry is not in the graph");

  const auto writing = gate_.write();
  points_.restore(state.points, count);
  restore_slots(state.labels, state.flags, state.ring, counts);
  links_.borrow(state.links);
  blocks_.borrow(state.blocks);
  entries_.resize(0, kNone);
  for (Slot entry : state.entries) add_entry(entry);
  unchecked_ = state.unchecked;
  sampled_at_ = state.sampled_at;
  finished_ = count;
  stale_.clear();
}

}  // namespace seedbed::index

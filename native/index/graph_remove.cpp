#include <algorithm>
#include <stdexcept>
#include <string>

#include "index/graph.hpp"
#include "index/graph_blocks.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kPoor = 4;  // with fewer links a slot is linked in anew

}  // namespace

void Graph::remove(const std::int64_t* ids, std::size_t count) {
  const auto writing = gate_.write();
  need_label_map();
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
  for (std::int64_t label : sorted)
    if (map_.find(label, labels_.data()) == kNone)
      throw std::invalid_argument("id " + std::to_string(label) + " is not in the index");

  if ((live_ - count) * 2 < labels_.size()) {  // so little is left that building anew is cheaper than mending
    for (std::size_t i = 0; i < count; ++i) detach(map_.find(ids[i], labels_.data()));
    rebuild();
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    detach(map_.find(ids[i], labels_.data()));
    if ((labels_.size() - live_) * 5 > labels_.size()) mend();
  }
}

void Graph::detach(Slot slot) {
  map_.erase(labels_[slot], labels_.data());
  --live_;
  if (ring_[slot] == slot) {
    ++removed_in_graph_;
    flags_.at(slot) |= kRemoved;
    return;
  }
  // Copies have the same vector, so one that does not stand in the graph leaves, and its name moves to this slot.
  const Slot before = in_graph(ring_[slot]) ? ring_[slot] : slot;
  const Slot leaving = ring_[before];
  if (leaving != slot) {
    map_.erase(labels_[leaving], labels_.data());
    labels_.at(slot) = labels_[leaving];
    map_.insert(labels_[slot], slot, labels_.data());
  }
  ring_.at(before) = ring_[leaving];
  ring_.at(leaving) = leaving;
  flags_.at(leaving) |= kRemoved;
}

// Where a link led to a removed slot, the links of that slot take its place, pruned by the heuristic.
void Graph::mend() {
  need_stale();
  auto walk = borrow_walk();
  std::vector<Slot> kept, around;
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    if (removed(slot)) continue;
    kept.push_back(slot);
    if (!in_graph(slot)) continue;
    Slot* own = mutable_links(slot);
    around.clear();
    bool touched = false;
    for (std::size_t i = 0; i < degree() && own[i] != kNone; ++i) {
      if (!removed(own[i])) {
        around.push_back(own[i]);
        continue;
      }
      touched = true;
      const Slot* beyond = links(own[i]);
      for (std::size_t j = 0; j < degree() && beyond[j] != kNone; ++j)
        if (beyond[j] != slot && !removed(beyond[j])) around.push_back(beyond[j]);
    }
    if (!touched) continue;
    std::sort(around.begin(), around.end());
    around.erase(std::unique(around.begin(), around.end()), around.end());
    walk->candidates.clear();
    weigh(slot, around, *walk);
    std::sort(walk->candidates.begin(), walk->candidates.end());
    select(walk->candidates, degree(), *walk);
    std::fill_n(own, degree(), kNone);
    for (std::size_t i = 0; i < walk->candidates.size(); ++i) own[i] = walk->candidates[i].slot;
    stale_[slot] = 1;
  }
  close_up(kept);
  std::vector<Near> near;
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    const Slot* own = links(slot);
    if (!in_graph(slot) || std::find(own, own + degree(), kNone) - own >= static_cast<std::ptrdiff_t>(kPoor)) continue;
    neighbourhood(slot, *walk);  // so few are left that it is linked in as if it were new
    near = walk->pool;
    connect(slot, near, *walk);
  }
  give_back(std::move(walk));
  reconnect();
  finish(0, labels_.size(), 1);
}

// Moves the kept slots down over the removed ones, in order, and renames every link.
void Graph::close_up(const std::vector<Slot>& kept) {
  std::vector<Slot> renamed(labels_.size(), kNone);
  for (std::size_t i = 0; i < kept.size(); ++i) renamed[kept[i]] = static_cast<Slot>(i);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Slot from = kept[i];
    if (from != i) {
      points_.move(from, i);
      std::copy_n(links(from), degree(), mutable_links(static_cast<Slot>(i)));
      std::copy_n(blocks_.data() + from * block_stride_, block_stride_, blocks_.writable() + i * block_stride_);
      stale_[i] = stale_[from];
    }
    Slot* row = mutable_links(static_cast<Slot>(i));
    std::size_t count = 0;
    for (std::size_t j = 0; j < degree() && row[j] != kNone; ++j)
      if (renamed[row[j]] != kNone) row[count++] = renamed[row[j]];
    std::fill(row + count, row + degree(), kNone);
    rename_blocks(static_cast<Slot>(i), renamed);
    labels_.at(i) = labels_[from];
    flags_.at(i) = flags_[from];
    ring_.at(i) = renamed[ring_[from]];
  }
  cut(kept.size());
  removed_in_graph_ = 0;
  map_.clear(kept.size());
  for (Slot slot = 0; slot < kept.size(); ++slot) map_.insert(labels_[slot], slot, labels_.data());
  finished_ = kept.size();
  choose_entries(finished_);
}

void Graph::cut(std::size_t count) {
  points_.shrink(count);
  links_.resize(count * degree(), kNone);
  blocks_.resize(count * block_stride_, 0);
  labels_.resize(count, 0);
  flags_.resize(count, 0);
  ring_.resize(count, 0);
  stale_.resize(count);
}

// Builds the graph anew of the slots that are left, from their codes.
void Graph::rebuild() {
  std::vector<Slot> kept;
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) kept.push_back(slot);
  need_stale();
  close_up(kept);
  const std::size_t count = kept.size();
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
  const std::size_t count = state.labels.size();
  require(count <= kMaxSlots, "too many vectors");
  require(state.flags.size() == count && state.ring.size() == count && state.links.size() == count * degree() &&
              state.blocks.size() == count * block_stride_,
          "the arrays do not belong together");
  require(count == 0 || !state.entries.empty(), "there is no entry");
  require(state.sampled_at <= kMaxSlots && state.unchecked <= kMaxSlots, "a count is out of range");
  require(state.entries.size() <= kEntries, "there are too many entries");
  std::vector<std::uint8_t> pointed(count);
  std::size_t removed_in_graph = 0, live = 0;
  for (std::size_t i = 0; i < count; ++i) {
    require(state.ring[i] < count && !pointed[state.ring[i]], "the copies of a vector do not form a ring");
    pointed[state.ring[i]] = 1;
    live += !(state.flags[i] & kRemoved);
    removed_in_graph += (state.flags[i] & (kRemoved | kAlias)) == kRemoved;
  }
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
  labels_.borrow(state.labels);
  flags_.borrow(state.flags);
  ring_.borrow(state.ring);
  links_.borrow(state.links);
  blocks_.borrow(state.blocks);
  entries_.resize(0, kNone);
  for (Slot entry : state.entries) add_entry(entry);
  live_ = live;
  removed_in_graph_ = removed_in_graph;
  unchecked_ = state.unchecked;
  sampled_at_ = state.sampled_at;
  finished_ = count;
  stale_.clear();
  mapped_.store(false);
}

}  // namespace seedbed::index

#include <algorithm>
#include <stdexcept>
#include <string>

#include "index/hnsw.hpp"
#include "index/hnsw_walk.hpp"

namespace seedbed::index {

void Hnsw::remove(const std::int64_t* ids, std::size_t count) {
  const Writing writing(*this);
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
    std::vector<Slot> kept;
    for (Slot slot = 0; slot < labels_.size(); ++slot)
      if (!removed(slot)) kept.push_back(slot);
    rebuild_from(kept);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    detach(map_.find(ids[i], labels_.data()));
    if ((labels_.size() - live_) * 5 > labels_.size()) mend();
  }
}

void Hnsw::detach(Slot slot) {
  map_.erase(labels_[slot], labels_.data());
  --live_;
  Slot leaving = slot;
  if (ring_[slot] != slot) {
    if (in_graph(slot)) {  // a copy takes over the name's place in the graph: their vectors are the same
      leaving = ring_[slot];
      map_.erase(labels_[leaving], labels_.data());
      labels_.at(slot) = labels_[leaving];
      map_.insert(labels_[slot], slot, labels_.data());
    }
    Slot before = leaving;
    while (ring_[before] != leaving) before = ring_[before];
    ring_.at(before) = ring_[leaving];
    ring_.at(leaving) = leaving;
  } else {
    ++removed_in_graph_;
  }
  flags_.at(leaving) |= kRemoved;
}

// Where a link led to a removed slot, the links of that slot take its place, pruned by the heuristic.
void Hnsw::mend() {
  const Distance kernel = this->kernel();
  std::vector<Slot> kept, around, poor;
  std::vector<float> distances;
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    if (removed(slot)) continue;
    kept.push_back(slot);
    if (!in_graph(slot)) continue;
    for (int level = 0; level <= levels_[slot]; ++level) {
      const std::size_t width = this->width(level);
      Slot* own = mutable_links(slot, level);
      around.clear();
      bool touched = false;
      for (std::size_t i = 0; i < width && own[i] != kNone; ++i) {
        if (!removed(own[i])) {
          around.push_back(own[i]);
          continue;
        }
        touched = true;
        const Slot* beyond = links(own[i], level);
        for (std::size_t j = 0; j < width && beyond[j] != kNone; ++j)
          if (beyond[j] != slot && !removed(beyond[j])) around.push_back(beyond[j]);
      }
      if (!touched) continue;
      std::sort(around.begin(), around.end());
      around.erase(std::unique(around.begin(), around.end()), around.end());
      distances.resize(around.size());
      distances_to(kernel, row(slot), around, distances.data());
      std::vector<Near> near;
      for (std::size_t i = 0; i < around.size(); ++i) near.push_back({distances[i], around[i]});
      std::sort(near.begin(), near.end());
      select(kernel, near, width);
      std::fill_n(own, width, kNone);
      for (std::size_t i = 0; i < near.size(); ++i) own[i] = near[i].slot;
      if (level == 0 && near.size() * 4 < m_) poor.push_back(static_cast<Slot>(kept.size() - 1));
    }
  }
  close_up(kept);
  for (Slot slot : poor) refresh(slot);
  reconnect();
}

// Moves the kept slots down over the removed ones, in order, and renames every link.
void Hnsw::close_up(const std::vector<Slot>& kept) {
  std::vector<Slot> renamed(labels_.size(), kNone);
  for (std::size_t i = 0; i < kept.size(); ++i) renamed[kept[i]] = static_cast<Slot>(i);
  const auto rename = [&](Slot* list, std::size_t width) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < width && list[i] != kNone; ++i)
      if (renamed[list[i]] != kNone) list[count++] = renamed[list[i]];
    std::fill(list + count, list + width, kNone);
  };
  Array<Slot> upper;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Slot from = kept[i];
    if (from != i) {
      std::copy_n(row(from), stride_, vectors_.writable() + i * stride_);
      std::copy_n(links(from, 0), 2 * m_, links_.writable() + i * 2 * m_);
    }
    rename(links_.writable() + i * 2 * m_, 2 * m_);
    const std::size_t blocks = in_graph(from) ? levels_[from] : 0;
    const std::size_t start = upper.size();
    if (blocks) {
      upper.resize(start + blocks * m_, kNone);
      std::copy_n(links(from, 1), blocks * m_, upper.writable() + start);
      for (std::size_t block = 0; block < blocks; ++block) rename(upper.writable() + start + block * m_, m_);
    }
    labels_.at(i) = labels_[from];
    levels_.at(i) = static_cast<std::uint8_t>(blocks);
    flags_.at(i) = flags_[from];
    ring_.at(i) = renamed[ring_[from]];
    upper_start_.at(i) = static_cast<Slot>(start / m_);
  }
  upper_.swap(upper);
  const std::size_t count = kept.size();
  vectors_.resize(count * stride_, 0.0f);
  links_.resize(count * 2 * m_, kNone);
  labels_.resize(count, 0);
  levels_.resize(count, 0);
  flags_.resize(count, 0);
  ring_.resize(count, 0);
  upper_start_.resize(count, 0);
  removed_in_graph_ = 0;
  map_.clear(count);
  for (Slot slot = 0; slot < count; ++slot) map_.insert(labels_[slot], slot, labels_.data());
  if (entry_ != kNone && renamed[entry_] != kNone)
    entry_ = renamed[entry_];
  else
    choose_entry();
}

void Hnsw::choose_entry() {
  entry_ = kNone;
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (in_graph(slot) && (entry_ == kNone || levels_[slot] > levels_[entry_])) entry_ = slot;
}

// Searches for a slot's neighbours as if it were new.
void Hnsw::refresh(Slot slot) {
  const Distance kernel = this->kernel();
  auto scratch = borrow_scratch();
  const Near start = descend(kernel, row(slot), 0);
  scratch->start(labels_.size());
  search_layer(kernel, row(slot), std::span(&start, 1), 0, ef_construction_, *scratch,
               [this](Slot from, int at, Slot*) { return links(from, at); });
  std::vector<Near> near = scratch->pool;
  connect<false>(slot, 0, near);
  give_back(std::move(scratch));
}

void Hnsw::rebuild_from(const std::vector<Slot>& kept) {
  std::vector<float> rows(kept.size() * dim_);
  std::vector<std::int64_t> ids(kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::copy_n(row(kept[i]), dim_, rows.data() + i * dim_);
    ids[i] = labels_[kept[i]];
  }
  vectors_ = {}, labels_ = {}, levels_ = {}, flags_ = {}, ring_ = {}, links_ = {}, upper_start_ = {}, upper_ = {};
  entry_ = kNone;
  live_ = removed_in_graph_ = unchecked_ = 0;
  map_.clear(kept.size());
  vectors_.grow(kept.size() * stride_);
  links_.grow(kept.size() * 2 * m_);
  add_slice(rows.data(), ids.data(), ids.size(), 1);
  reconnect();
}

HnswState Hnsw::state() const {
  return {vectors_.span(), labels_.span(),      levels_.span(), flags_.span(), ring_.span(),
          links_.span(),   upper_start_.span(), upper_.span(),  entry_,        drawn_};
}

void Hnsw::restore(const HnswState& state) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  };
  const std::size_t count = state.labels.size();
  require(count <= kMaxSlots, "too many vectors");
  require(state.vectors.size() == count * stride_ && state.links.size() == count * 2 * m_ &&
              state.levels.size() == count && state.flags.size() == count && state.ring.size() == count &&
              state.upper_start.size() == count && state.upper.size() % m_ == 0,
          "the arrays do not belong together");
  require(count ? state.entry < count : state.entry == kNone, "the entry point lies outside");
  std::vector<std::uint8_t> pointed(count);
  std::size_t removed_in_graph = 0, live = 0;
  for (std::size_t i = 0; i < count; ++i) {
    require(state.levels[i] <= kMaxLevel, "a level is out of range");
    require(std::size_t{state.upper_start[i]} + state.levels[i] <= state.upper.size() / m_ ||
                state.levels[i] == 0, "a higher layer lies outside");
    require(state.ring[i] < count && !pointed[state.ring[i]], "the copies of a vector do not form a ring");
    pointed[state.ring[i]] = 1;
    live += !(state.flags[i] & kRemoved);
    removed_in_graph += (state.flags[i] & (kRemoved | kAlias)) == kRemoved;
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < 2 * m_; ++j) {
      const Slot to = state.links[i * 2 * m_ + j];
      require(to == kNone || to < count, "a link leads outside");
    }
    for (std::size_t level = 1; level <= state.levels[i]; ++level)
      for (std::size_t j = 0; j < m_; ++j) {
        const Slot to = state.upper[(std::size_t{state.upper_start[i]} + level - 1) * m_ + j];
        require(to == kNone || (to < count && state.levels[to] >= level), "a link leads outside its layer");
      }
  }
  require(count == 0 || !(state.flags[state.entry] & kAlias), "the entry point is not in the graph");

  const Writing writing(*this);
  vectors_.borrow(state.vectors);
  labels_.borrow(state.labels);
  levels_.borrow(state.levels);
  flags_.borrow(state.flags);
  ring_.borrow(state.ring);
  links_.borrow(state.links);
  upper_start_.borrow(state.upper_start);
  upper_.borrow(state.upper);
  entry_ = state.entry;
  drawn_ = state.drawn;
  live_ = live;
  removed_in_graph_ = removed_in_graph;
  unchecked_ = 0;
  mapped_.store(false);
}

}  // namespace seedbed::index

#include <algorithm>
#include <stdexcept>

#include "index/hnsw.hpp"
#include "index/hnsw_walk.hpp"

namespace seedbed::index {

void Hnsw::remove(const std::int64_t* ids, std::size_t count) {
  const auto writing = gate_.write();
  detach_all(ids, count, [this] { mend(); }, [this] { rebuild(); });
}

// Links that led to removed slots lead to the links of those, pruned by the heuristic.
void Hnsw::mend() {
  const Distance kernel = this->kernel();
  std::vector<Slot> around, poor;
  std::vector<float> distances;
  Slot next = 0;  // what a slot will be called
  for (Slot slot = 0; slot < labels_.size(); ++slot) {
    if (removed(slot)) continue;
    const Slot renamed = next++;
    if (!in_graph(slot)) continue;
    for (int level = 0; level <= levels_[slot]; ++level) {
      Slot* own = mutable_links(slot, level);
      if (!bridged(slot, own, width(level), [&](Slot other) { return links(other, level); }, around)) continue;
      distances.resize(around.size());
      distances_to(kernel, row(slot), around, distances.data());
      std::vector<Near> near;
      for (std::size_t i = 0; i < around.size(); ++i) near.push_back({distances[i], around[i]});
      std::sort(near.begin(), near.end());
      select(kernel, near, width(level));
      set_links(own, width(level), near);
      if (level == 0 && near.size() * 4 < m_) poor.push_back(renamed);
    }
  }
  close_up();
  for (Slot slot : poor) refresh(slot);
  reconnect();
}

// Moves the kept slots down over the removed ones, in order, and renames every link.
void Hnsw::close_up() {
  const std::vector<Slot> kept = this->kept(), renamed = renaming(kept, labels_.size());
  Array<Slot> upper;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Slot from = kept[i];
    if (from != i) {
      std::copy_n(row(from), stride_, vectors_.writable() + i * stride_);
      std::copy_n(links(from, 0), 2 * m_, links_.writable() + i * 2 * m_);
    }
    rename_links(links_.writable() + i * 2 * m_, 2 * m_, renamed);
    const std::size_t blocks = in_graph(from) ? levels_[from] : 0;
    const std::size_t start = upper.size();
    if (blocks) {
      upper.resize(start + blocks * m_, kNone);
      std::copy_n(links(from, 1), blocks * m_, upper.writable() + start);
      for (std::size_t block = 0; block < blocks; ++block) rename_links(upper.writable() + start + block * m_, m_, renamed);
    }
    levels_.at(i) = static_cast<std::uint8_t>(blocks);
    upper_start_.at(i) = static_cast<Slot>(start / m_);
  }
  upper_.swap(upper);
  move_names(kept, renamed);
  const std::size_t count = kept.size();
  vectors_.resize(count * stride_, 0.0f);
  links_.resize(count * 2 * m_, kNone);
  levels_.resize(count, 0);
  upper_start_.resize(count, 0);
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
  auto scratch = scratches_.borrow();
  std::vector<Near> near = neighbourhood(slot, *scratch);
  connect<false>(slot, 0, near);
  scratches_.give_back(std::move(scratch));
}

void Hnsw::rebuild() {
  const std::vector<Slot> kept = this->kept();
  std::vector<float> rows(kept.size() * dim_);
  std::vector<std::int64_t> ids(kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::copy_n(row(kept[i]), dim_, rows.data() + i * dim_);
    ids[i] = labels_[kept[i]];
  }
  forget_slots();
  vectors_ = {}, levels_ = {}, links_ = {}, upper_start_ = {}, upper_ = {};
  entry_ = kNone;
  unchecked_ = 0;
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
  const Counts counts = check(state.labels, state.flags, state.ring);
  const std::size_t count = state.labels.size();
  require(state.vectors.size() == count * stride_ && state.links.size() == count * 2 * m_ &&
              state.levels.size() == count && state.upper_start.size() == count && state.upper.size() % m_ == 0,
          "the arrays do not belong together");
  require(count ? state.entry < count : state.entry == kNone, "the entry point lies outside");
  for (std::size_t i = 0; i < count; ++i) {
    require(state.levels[i] <= kMaxLevel, "a level is out of range");
    require(std::size_t{state.upper_start[i]} + state.levels[i] <= state.upper.size() / m_ ||
                state.levels[i] == 0, "a higher layer lies outside");
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

  const auto writing = gate_.write();
  vectors_.borrow(state.vectors);
  restore_slots(state.labels, state.flags, state.ring, counts);
  levels_.borrow(state.levels);
  links_.borrow(state.links);
  upper_start_.borrow(state.upper_start);
  upper_.borrow(state.upper);
  entry_ = state.entry;
  drawn_ = state.drawn;
  unchecked_ = 0;
}

}  // namespace seedbed::index

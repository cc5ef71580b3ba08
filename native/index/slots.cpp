#include "index/slots.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace seedbed::index {

std::size_t Slots::size() const {
  const auto reading = gate_.read();
  return live_;
}

std::vector<std::int64_t> Slots::ids() const {
  const auto reading = gate_.read();
  std::vector<std::int64_t> out;
  out.reserve(live_);
  for (Slot slot : kept()) out.push_back(labels_[slot]);
  return out;
}

void Slots::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(map_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) map_.insert(labels_[slot], slot, labels_.data());
  mapped_.store(true, std::memory_order_release);
}

void Slots::require_new(const std::int64_t* ids, std::size_t count) const {
  need_label_map();
  if (labels_.size() + count > kMaxSlots) throw std::invalid_argument("the index would hold too many vectors");
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  map_.reserve(live_ + count, labels_.data());
}

Slot Slots::require_known(std::int64_t id) const {
  need_label_map();
  const Slot slot = map_.find(id, labels_.data());
  if (slot == kNone) throw std::invalid_argument("id " + std::to_string(id) + " is not in the index");
  return slot;
}

void Slots::append_slots(const std::int64_t* ids, std::size_t count) {
  const std::size_t first = labels_.size(), total = first + count;
  labels_.resize(total, -1);
  flags_.resize(total, 0);
  ring_.resize(total, 0);
  for (std::size_t i = 0; i < count; ++i) {
    const Slot slot = static_cast<Slot>(first + i);
    labels_.at(slot) = ids[i];
    ring_.at(slot) = slot;
    map_.insert(ids[i], slot, labels_.data());
  }
  live_ += count;
}

void Slots::detach(Slot slot) {
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

std::vector<Slot> Slots::kept() const {
  std::vector<Slot> slots;
  slots.reserve(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) slots.push_back(slot);
  return slots;
}

std::vector<Slot> Slots::renaming(const std::vector<Slot>& kept, std::size_t count) {
  std::vector<Slot> renamed(count, kNone);
  for (std::size_t i = 0; i < kept.size(); ++i) renamed[kept[i]] = static_cast<Slot>(i);
  return renamed;
}

void Slots::move_names(const std::vector<Slot>& kept, const std::vector<Slot>& renamed) {
  for (std::size_t i = 0; i < kept.size(); ++i) {
    labels_.at(i) = labels_[kept[i]];
    flags_.at(i) = flags_[kept[i]];
    ring_.at(i) = renamed[ring_[kept[i]]];
  }
  labels_.resize(kept.size(), 0);
  flags_.resize(kept.size(), 0);
  ring_.resize(kept.size(), 0);
  removed_in_graph_ = 0;
  map_.clear(kept.size());
  for (Slot slot = 0; slot < kept.size(); ++slot) map_.insert(labels_[slot], slot, labels_.data());
}

void Slots::forget_slots() {
  labels_ = {}, flags_ = {}, ring_ = {};
  live_ = removed_in_graph_ = 0;
  map_.clear(0);
}

void Slots::join(Slot slot, Slot other) {
  const std::lock_guard lock(map_mutex_);
  ring_.at(slot) = ring_[other];
  ring_.at(other) = slot;
  flags_.at(slot) |= kAlias;
}

bool Slots::admitted(Slot slot, const Mask* mask) const {
  if (!mask) return !removed(slot);
  Slot member = slot;
  do {
    if ((*mask)[member]) return true;
    member = ring_[member];
  } while (member != slot);
  return false;
}

Slots::Counts Slots::check(std::span<const std::int64_t> labels, std::span<const std::uint8_t> flags,
                           std::span<const Slot> ring) {
  const std::size_t count = labels.size();
  if (count > kMaxSlots) throw std::invalid_argument("too many vectors");
  if (flags.size() != count || ring.size() != count) throw std::invalid_argument("the arrays do not belong together");
  std::vector<std::uint8_t> pointed(count);
  Counts counts;
  for (std::size_t i = 0; i < count; ++i) {
    if (ring[i] >= count || pointed[ring[i]]) throw std::invalid_argument("the copies of a vector do not form a ring");
    pointed[ring[i]] = 1;
    counts.live += !(flags[i] & kRemoved);
    counts.removed_in_graph += (flags[i] & (kRemoved | kAlias)) == kRemoved;
  }
  return counts;
}

void Slots::restore_slots(std::span<const std::int64_t> labels, std::span<const std::uint8_t> flags,
                          std::span<const Slot> ring, Counts counts) {
  labels_.borrow(labels);
  flags_.borrow(flags);
  ring_.borrow(ring);
  live_ = counts.live;
  removed_in_graph_ = counts.removed_in_graph;
  mapped_.store(false);
}

Slots::Asked::Asked(const Slots& slots, const std::vector<std::int64_t>* allowed, std::size_t k, std::size_t width,
                    double price)
    : slots_(slots), filtered_(allowed != nullptr) {
  std::size_t within = slots.live_;
  const std::size_t total = slots.labels_.size();
  if (allowed) {
    slots.need_label_map();
    mask_.assign(total, 0);
    for (std::int64_t label : *allowed)
      if (const Slot slot = slots.map_.find(label, slots.labels_.data()); slot != kNone) mask_[slot] = 1;
    within = static_cast<std::size_t>(std::count(mask_.begin(), mask_.end(), 1));
  }
  wanted = std::min(k, within);
  this->width = std::max(width, wanted);
  // A walk has to see about width / selectivity slots.
  const double selectivity = static_cast<double>(within) / static_cast<double>(std::max<std::size_t>(1, total));
  scanned = this->width >= within || static_cast<double>(within) * selectivity <= price * static_cast<double>(this->width);
}

const std::vector<Slot>& Slots::Asked::eligible() {
  std::call_once(listed_, [&] {
    if (!filtered_) eligible_ = slots_.kept();
    for (Slot slot = 0; slot < mask_.size(); ++slot)
      if (mask_[slot]) eligible_.push_back(slot);
  });
  return eligible_;
}

}  // namespace seedbed::index

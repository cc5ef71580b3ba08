// What graphs share: slots under ids of the user's own, exact copies, and removed slots.
//
// Exact copies of a vector form a ring (`ring`): one of them stands in the graph, the others hang on it, so that
// thousands of equal vectors neither crowd each other's links nor hide. Removed slots stay as stepping stones until a
// fifth of the graph is removed; then the links around them are mended and the slots closed up (as FreshDiskANN does).
//
// Concurrency. Any number of searches run together; changes come one at a time and let searches in between.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "index/gate.hpp"
#include "index/storage.hpp"
#include "index/walk.hpp"

namespace seedbed::index {

class Slots {
 public:
  enum Flag : std::uint8_t { kRemoved = 1, kAlias = 2 };
  using Mask = std::vector<std::uint8_t>;  // of a filter: which slots may be returned

  std::size_t size() const;
  std::vector<std::int64_t> ids() const;

 protected:
  bool removed(Slot slot) const { return flags_[slot] & kRemoved; }
  bool in_graph(Slot slot) const { return !(flags_[slot] & kAlias); }
  std::size_t slot_bytes() const { return labels_.bytes() + flags_.bytes() + ring_.bytes() + map_.bytes(); }

  void need_label_map() const;
  // Both throw std::invalid_argument, and build the map where it is not there.
  void require_new(const std::int64_t* ids, std::size_t count) const;
  Slot require_known(std::int64_t id) const;
  void append_slots(const std::int64_t* ids, std::size_t count);

  // Removes all of `ids` or throws: `mend()` when a fifth of the slots are removed, `rebuild()` when so little is left
  // that building anew is cheaper.
  template <class Mend, class Rebuild>
  void detach_all(const std::int64_t* ids, std::size_t count, const Mend& mend, const Rebuild& rebuild);
  std::vector<Slot> kept() const;  // the slots that are not removed, ascending
  // What the kept slots are called when they have moved down over the removed ones, in order; kNone for the others.
  static std::vector<Slot> renaming(const std::vector<Slot>& kept, std::size_t count);
  void forget_slots();
  void move_names(const std::vector<Slot>& kept, const std::vector<Slot>& renamed);

  void join(Slot slot, Slot other);  // an exact copy of `other` leaves the graph for its ring
  bool admitted(Slot slot, const Mask* mask) const;
  // Writes what `found` and its copies hold, at most k; `reported` turns a distance into what the user sees.
  template <class Reported>
  void emit(std::span<const Near> found, const Mask* mask, std::size_t k, const Reported& reported, float* distances,
            std::int64_t* ids) const;

  // Where a link in `own` led to a removed slot, the links of that slot are meant instead: `around` holds all slots,
  // ascending. False where no link did.
  template <class Links>
  bool bridged(Slot slot, const Slot* own, std::size_t width, const Links& links_of, std::vector<Slot>& around) const;
  // Calls link_in(slot) for slots that no walk from the entries can reach, until there is none: pruning may take away a
  // slot's last incoming link. It returns whether it could link.
  template <class Links, class LinkIn>
  void reach_all(std::span<const Slot> entries, std::size_t width, const Links& links_of, const LinkIn& link_in) const;

  // Throws std::invalid_argument unless all is consistent; then takes views.
  struct Counts {
    std::size_t live = 0, removed_in_graph = 0;
  };
  static Counts check(std::span<const std::int64_t> labels, std::span<const std::uint8_t> flags,
                      std::span<const Slot> ring);
  void restore_slots(std::span<const std::int64_t> labels, std::span<const std::uint8_t> flags,
                     std::span<const Slot> ring, Counts counts);

  // What a search may return, and whether it had better look at all of it than walk.
  class Asked {
   public:
    // `price`: how many times as much a walk pays for a vector as a scan does.
    Asked(const Slots& slots, const std::vector<std::int64_t>* allowed, std::size_t k, std::size_t width, double price);
    const Mask* filter() const { return filtered_ ? &mask_ : nullptr; }
    const std::vector<Slot>& eligible();  // all of it; any thread may ask

    std::size_t wanted = 0, width = 0;  // of results, none where nothing can be found; of the walk
    bool scanned = false;

   private:
    const Slots& slots_;
    bool filtered_;
    Mask mask_;
    std::vector<Slot> eligible_;
    std::once_flag listed_;
  };

  Array<std::int64_t> labels_;
  Array<std::uint8_t> flags_;
  Array<Slot> ring_;
  std::size_t live_ = 0, removed_in_graph_ = 0;
  Gate gate_;
  mutable std::mutex map_mutex_;

 private:
  void detach(Slot slot);

  mutable LabelMap map_;
  mutable std::atomic<bool> mapped_ = true;
};

template <class Mend, class Rebuild>
void Slots::detach_all(const std::int64_t* ids, std::size_t count, const Mend& mend, const Rebuild& rebuild) {
  need_label_map();
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
  for (std::int64_t id : sorted) require_known(id);

  const bool anew = (live_ - count) * 2 < labels_.size();
  for (std::size_t i = 0; i < count; ++i) {
    detach(require_known(ids[i]));
    if (!anew && (labels_.size() - live_) * 5 > labels_.size()) mend();
  }
  if (anew) rebuild();
}

template <class Reported>
void Slots::emit(std::span<const Near> found, const Mask* mask, std::size_t k, const Reported& reported, float* distances,
                 std::int64_t* ids) const {
  std::size_t written = 0;
  for (const Near& one : found) {
    Slot member = one.slot;
    do {
      if (written == k) return;
      if (mask ? (*mask)[member] : !removed(member)) {
        distances[written] = reported(one.distance);
        ids[written++] = labels_[member];
      }
      member = ring_[member];
    } while (member != one.slot);
  }
}

template <class Links>
bool Slots::bridged(Slot slot, const Slot* own, std::size_t width, const Links& links_of, std::vector<Slot>& around) const {
  around.clear();
  bool touched = false;
  for (std::size_t i = 0; i < width && own[i] != kNone; ++i) {
    if (!removed(own[i])) {
      around.push_back(own[i]);
      continue;
    }
    touched = true;
    const Slot* beyond = links_of(own[i]);
    for (std::size_t j = 0; j < width && beyond[j] != kNone; ++j)
      if (beyond[j] != slot && !removed(beyond[j])) around.push_back(beyond[j]);
  }
  if (!touched) return false;
  std::sort(around.begin(), around.end());
  around.erase(std::unique(around.begin(), around.end()), around.end());
  return true;
}

template <class Links, class LinkIn>
void Slots::reach_all(std::span<const Slot> entries, std::size_t width, const Links& links_of,
                      const LinkIn& link_in) const {
  std::vector<std::uint8_t> reached(labels_.size());
  std::vector<Slot> stack;
  const auto flood = [&](Slot from) {
    if (!reached[from]) stack.push_back(from);
    reached[from] = 1;
    while (!stack.empty()) {
      const Slot* around = links_of(stack.back());
      stack.pop_back();
      for (std::size_t i = 0; i < width && around[i] != kNone; ++i)
        if (!reached[around[i]]) {
          reached[around[i]] = 1;
          stack.push_back(around[i]);
        }
    }
  };
  for (int round = 0; round < 4; ++round) {
    std::fill(reached.begin(), reached.end(), std::uint8_t{0});
    for (Slot entry : entries) flood(entry);
    bool whole = true;
    for (Slot slot = 0; slot < labels_.size(); ++slot) {
      if (reached[slot] || !in_graph(slot) || removed(slot)) continue;
      whole = false;
      if (link_in(slot)) flood(slot);
    }
    if (whole) break;
  }
}

}  // namespace seedbed::index

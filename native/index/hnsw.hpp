// Hierarchical navigable small world graph (Malkov & Yashunin, arXiv:1603.09320), float32.
//
// Layout. Slot i has a padded vector, 2m links on layer 0 (fixed stride, ended by kNone) and m links on each
// higher layer that it reaches (`upper`, from block `upper_start[i]`). Copies, removed slots and concurrency: slots.hpp.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "index/parallel.hpp"
#include "index/slots.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

inline constexpr int kMaxLevel = 15;

struct Scratch : WalkSpace {
  Array<float> query;
};

struct Step {  // a vector that a search looked at
  std::int64_t id, from;  // `from`: whose links led there; -1 for the entry point
  int level;
  float distance;
};

struct HnswState {  // what a file holds; views are into the index
  std::span<const float> vectors;
  std::span<const std::int64_t> labels;
  std::span<const std::uint8_t> levels, flags;
  std::span<const Slot> ring, links, upper_start, upper;
  Slot entry = kNone;
  std::uint64_t drawn = 0;
};

class Hnsw : public Slots {
 public:
  Hnsw(std::size_t dim, bool l2, std::size_t m, std::size_t ef_construction, std::uint64_t seed);

  // Rows are finite and already normalised where the metric asks for it. Throws std::invalid_argument
  // on an id that is there already or twice, and then nothing is added.
  void add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);

  // Throws std::invalid_argument on an id that is not there, and then nothing is removed.
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) distances and ids, closest first, padded with infinity and -1. `allowed`: null, or the
  // ids that may be returned (unknown ones are ignored).
  void search(const float* queries, std::size_t count, std::size_t k, std::size_t ef,
              const std::vector<std::int64_t>* allowed, std::size_t threads, float* distances, std::int64_t* ids) const;

  // All that a search for one query with `ef` candidates looks at, in order; a vector comes once for each level.
  std::vector<Step> trace(const float* query, std::size_t ef) const;

  // Takes views of arrays that the caller keeps alive. Throws std::invalid_argument unless all is consistent.
  void restore(const HnswState& state);
  HnswState state() const;

  std::size_t memory_bytes() const;
  std::size_t dim() const { return dim_; }

 private:
  using Distance = simd::DistanceKernel;

  const float* row(Slot slot) const { return vectors_.data() + std::size_t{slot} * stride_; }
  std::size_t width(int level) const { return level == 0 ? 2 * m_ : m_; }
  std::size_t place(Slot slot, int level) const {
    return level == 0 ? std::size_t{slot} * 2 * m_
                      : (std::size_t{upper_start_[slot]} + static_cast<std::size_t>(level) - 1) * m_;
  }
  const Slot* links(Slot slot, int level) const { return (level == 0 ? links_ : upper_).data() + place(slot, level); }
  Slot* mutable_links(Slot slot, int level) { return (level == 0 ? links_ : upper_).writable() + place(slot, level); }
  Distance kernel() const;
  float distance(const Distance& kernel, const float* a, const float* b) const {
    const float value = kernel.one(a, b, stride_);
    return l2_ ? value : -value;
  }

  // hnsw_search.cpp
  void distances_to(const Distance& kernel, const float* query, std::span<const Slot> slots, float* out) const;
  // `seen(slot, from, level, distance)` hears of every slot that is looked at above level `until`.
  template <class Seen>
  Near descend(const Distance& kernel, const float* query, int until, const Seen& seen) const;
  Near descend(const Distance& kernel, const float* query, int until) const;
  template <class Links>
  void search_layer(const Distance& kernel, const float* query, std::span<const Near> starts, int level,
                    std::size_t ef, Scratch& scratch, const Links& links_of) const;
  // The closest slots on layer 0 that a walk from the entry point finds, but for the slot itself.
  std::vector<Near> neighbourhood(Slot slot, Scratch& scratch) const;

  // hnsw_build.cpp
  void add_slice(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);
  void append(const float* rows, const std::int64_t* ids, std::size_t count);
  void insert_all(std::span<const Slot> slots, std::size_t threads);
  template <bool kShared>
  void insert(Slot slot, Scratch& scratch);
  template <bool kShared>
  void connect(Slot slot, int level, std::vector<Near>& near);
  template <bool kShared>
  void link_back(const Distance& kernel, Slot from, Near to, int level);
  void select(const Distance& kernel, std::vector<Near>& near, std::size_t limit) const;
  bool join_ring(Slot slot, std::span<const Near> near);
  int draw_level();
  void reconnect();

  // hnsw_remove.cpp
  void mend();
  void close_up();
  void choose_entry();
  void refresh(Slot slot);
  void rebuild();

  std::size_t dim_, stride_, m_, ef_construction_;
  bool l2_;
  std::uint64_t seed_, drawn_ = 0;
  Array<float> vectors_;
  Array<std::uint8_t> levels_;
  Array<Slot> links_, upper_start_, upper_;
  Slot entry_ = kNone;
  std::size_t unchecked_ = 0;
  mutable Spaces<Scratch> scratches_;
  std::vector<std::atomic_flag> slot_locks_;
  std::mutex entry_mutex_;
};

}  // namespace seedbed::index

// Hierarchical navigable small world graph (Malkov & Yashunin, arXiv:1603.09320), float32.
//
// Layout. Slot i has a padded vector, 2m links on layer 0 (fixed stride, ended by kNone) and m links on each
// higher layer that it reaches (`upper`, from block `upper_start[i]`). Exact copies of a vector form a ring
// (`ring`): one of them stands in the graph, the others hang on it, so that thousands of equal vectors
// neither crowd each other's links nor hide. Removed slots stay as stepping stones until a fifth of the
// graph is removed; then the links around them are mended and the slots closed up (as FreshDiskANN does).
//
// Concurrency. Any number of searches run together; changes come one at a time and let searches in between.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <vector>

#include "index/parallel.hpp"
#include "index/storage.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

using Slot = std::uint32_t;
inline constexpr Slot kNone = 0xFFFFFFFFu;
inline constexpr std::size_t kMaxSlots = 0x7FFFFFF0u;
inline constexpr int kMaxLevel = 15;

struct Near {
  float distance;  // smaller is closer, whatever the metric
  Slot slot;
  bool operator<(const Near& other) const {
    return distance < other.distance || (distance == other.distance && slot < other.slot);
  }
};

// What one search needs besides the index; kept and used again, since clearing it would cost more than the search.
struct Scratch {
  std::vector<std::uint16_t> visited;
  std::uint16_t epoch = 0;
  std::vector<Near> pool;                // sorted; Near.slot's top bit marks an expanded entry
  std::vector<Near> candidates, results; // heaps of the filtered search
  std::vector<Slot> fresh, buffer;
  std::vector<float> distances;
  Array<float> query;

  void start(std::size_t slots);
  bool visit(Slot slot) {
    if (visited[slot] == epoch) return false;
    visited[slot] = epoch;
    return true;
  }
};

struct HnswState {  // what a file holds; views are into the index
  std::span<const float> vectors;
  std::span<const std::int64_t> labels;
  std::span<const std::uint8_t> levels, flags;
  std::span<const Slot> ring, links, upper_start, upper;
  Slot entry = kNone;
  std::uint64_t drawn = 0;
};

class Hnsw {
 public:
  enum Flag : std::uint8_t { kRemoved = 1, kAlias = 2 };

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

  // Takes views of arrays that the caller keeps alive. Throws std::invalid_argument unless all is consistent.
  void restore(const HnswState& state);
  HnswState state() const;

  std::size_t size() const;
  std::size_t memory_bytes() const;
  std::size_t dim() const { return dim_; }
  std::vector<std::int64_t> ids() const;

 private:
  friend class Writing;
  using Distance = simd::DistanceKernel;

  const float* row(Slot slot) const { return vectors_.data() + std::size_t{slot} * stride_; }
  std::size_t width(int level) const { return level == 0 ? 2 * m_ : m_; }
  std::size_t place(Slot slot, int level) const {
    return level == 0 ? std::size_t{slot} * 2 * m_
                      : (std::size_t{upper_start_[slot]} + static_cast<std::size_t>(level) - 1) * m_;
  }
  const Slot* links(Slot slot, int level) const { return (level == 0 ? links_ : upper_).data() + place(slot, level); }
  Slot* mutable_links(Slot slot, int level) { return (level == 0 ? links_ : upper_).writable() + place(slot, level); }
  bool removed(Slot slot) const { return flags_[slot] & kRemoved; }
  bool in_graph(Slot slot) const { return !(flags_[slot] & kAlias); }
  Distance kernel() const;
  float distance(const Distance& kernel, const float* a, const float* b) const {
    const float value = kernel.one(a, b, stride_);
    return l2_ ? value : -value;
  }

  // hnsw_search.cpp
  void distances_to(const Distance& kernel, const float* query, const std::vector<Slot>& slots, float* out) const;
  Near descend(const Distance& kernel, const float* query, int until) const;
  template <class Links>
  void search_layer(const Distance& kernel, const float* query, std::span<const Near> starts, int level,
                    std::size_t ef, Scratch& scratch, const Links& links_of) const;
  void search_filtered(const Distance& kernel, const float* query, Near start, std::size_t ef, Scratch& scratch,
                       const std::vector<std::uint8_t>* mask) const;
  void search_exact(const Distance& kernel, const float* query, const std::vector<Slot>& slots, std::size_t k,
                    Scratch& scratch) const;
  void emit(std::span<const Near> found, const std::vector<std::uint8_t>* mask, std::size_t k, float* distances,
            std::int64_t* ids) const;
  bool admitted(Slot slot, const std::vector<std::uint8_t>* mask) const;

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
  void detach(Slot slot);
  void mend();
  void close_up(const std::vector<Slot>& kept);
  void choose_entry();
  void refresh(Slot slot);
  void rebuild_from(const std::vector<Slot>& kept);

  void need_label_map() const;
  std::unique_ptr<Scratch> borrow_scratch() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;

  std::size_t dim_, stride_, m_, ef_construction_;
  bool l2_;
  std::uint64_t seed_, drawn_ = 0;
  Array<float> vectors_;
  Array<std::int64_t> labels_;
  Array<std::uint8_t> levels_, flags_;
  Array<Slot> ring_, links_, upper_start_, upper_;
  Slot entry_ = kNone;
  std::size_t live_ = 0, removed_in_graph_ = 0, unchecked_ = 0;

  mutable LabelMap map_;
  mutable std::atomic<bool> mapped_ = true;
  mutable std::mutex map_mutex_, scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> scratches_;
  mutable std::shared_mutex access_;
  mutable std::mutex turnstile_;  // a waiting writer holds it, so that a stream of searches cannot starve it
  std::vector<std::atomic_flag> slot_locks_;
  std::mutex entry_mutex_;
};

class Writing {
 public:
  explicit Writing(const Hnsw& index) : gate_(index.turnstile_), lock_(index.access_) {}

 private:
  std::unique_lock<std::mutex> gate_;
  std::unique_lock<std::shared_mutex> lock_;
};

}  // namespace seedbed::index

// A proximity graph whose points are codes: a walk reads eight-bit or one-bit codes, and what it finds is ranked by
// sixteen bits (fixed_points.hpp).
//
// The graph has one layer: each slot has up to `degree` links, chosen by the neighbour heuristic of HNSW (Malkov &
// Yashunin, Algorithm 4) when points are added one after another, and free places are filled with the closest of the
// neighbours' neighbours. Walks begin at the best of a sample of slots. With one-bit codes each slot also has blocks in
// which the codes of its neighbours, relative to itself, lie together for one fast scan (SymphonyQG; rabitq.hpp).
// Blocks follow the links when an addition or a removal ends.
//
// Copies, removed slots and concurrency: slots.hpp.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "index/fixed_points.hpp"
#include "index/graph_pool.hpp"
#include "index/rabitq.hpp"
#include "index/slots.hpp"
#include "index/spin_lock.hpp"

namespace seedbed::index {

enum class Metric { Cosine, Dot, L2 };

struct GraphSettings {
  std::size_t dim = 0;
  Metric metric = Metric::Cosine;
  std::size_t degree = 32, ef_construction = 200;
  bool one_bit = true;
  std::uint64_t seed = 0;
};

// How a search goes about: a walk on codes, or on sixteen bits to tell the loss of the graph from that of the codes.
struct GraphSearch {
  std::size_t k = 10, width = 64;
  bool exact_walk = false;
  std::size_t threads = 1;
};

struct Walk : WalkSpace {
  Array<float> turned;
  ByteQuery query;
  rabitq::Query table;
  CandidatePool waiting;
  Marks expanded;
};

struct GraphState {  // what a file holds; views are into the index
  FixedPoints::State points;
  std::span<const std::int64_t> labels;
  std::span<const std::uint8_t> flags, blocks;
  std::span<const Slot> ring, links, entries;
  std::size_t sampled_at = 0, unchecked = 0;
};

class Graph : public Slots {
 public:
  explicit Graph(const GraphSettings& settings);

  // Rows are finite and already normalised where the metric asks for it. Throws std::invalid_argument
  // on an id that is there already or twice, and then nothing is added.
  void add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);

  // Throws std::invalid_argument on an id that is not there, and then nothing is removed.
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) distances and ids, closest first, padded with infinity and -1. `allowed`: null, or the
  // ids that may be returned (unknown ones are ignored).
  void search(const float* queries, std::size_t count, const GraphSearch& how,
              const std::vector<std::int64_t>* allowed, float* distances, std::int64_t* ids) const;

  // The vectors of `ids` as they are kept, (count, dim). Throws std::invalid_argument on an id that is not there.
  void vectors(const std::int64_t* ids, std::size_t count, float* out) const;

  // Takes views of arrays that the caller keeps alive. Throws std::invalid_argument unless all is consistent.
  void restore(const GraphState& state);
  GraphState state() const;

  std::size_t memory_bytes() const;
  std::size_t dim() const { return settings_.dim; }
  static std::size_t predict_memory_bytes(const GraphSettings& settings, std::size_t count);

 private:
  static constexpr std::size_t kEntries = 64;
  static constexpr std::size_t kSlice = 1024;  // searches get a turn after so many insertions

  std::size_t degree() const { return settings_.degree; }
  const Slot* links(Slot slot) const { return links_.data() + std::size_t{slot} * degree(); }
  Slot* mutable_links(Slot slot) { return links_.writable() + std::size_t{slot} * degree(); }

  // graph_search.cpp
  Near best_entry(const ByteQuery& query, Walk& walk) const;
  void search_blocks(std::size_t width, std::size_t keep, Walk& walk) const;
  void search_filtered(std::size_t width, Walk& walk, const Mask* mask) const;
  void search_links(std::size_t width, bool exact, Walk& walk) const;
  void scan(std::span<const Slot> slots, std::size_t keep, Walk& walk) const;
  void rerank(std::size_t keep, Walk& walk) const;
  float reported(float value) const;

  // graph_build.cpp
  void add_slice(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);
  void choose_entries(std::size_t count);
  void add_entry(Slot slot);
  template <class Work>
  void for_slots(Slot first, std::size_t count, std::size_t threads, const Work& work);
  void insert_all(Slot first, std::size_t count, std::size_t threads);
  void insert(Slot slot, Walk& walk);
  bool join_ring(Slot slot, std::span<const Near> near);
  void neighbourhood(Slot slot, Walk& walk) const;
  void connect(Slot slot, std::vector<Near>& near, Walk& walk);
  void link_back(Slot from, Near to, Walk& walk);
  void weigh(Slot from, std::span<const Slot> slots, Walk& walk) const;
  void select(std::vector<Near>& near, std::size_t limit, Walk& walk) const;
  const Slot* links_now(Slot slot, Slot* buffer) const;
  std::atomic_flag* lock_of(Slot slot) const { return slot_locks_.empty() ? nullptr : &slot_locks_[slot]; }
  void reconnect();
  void finish(Slot first, std::size_t count, std::size_t threads);
  void fill(Slot slot, Walk& walk);
  void need_stale() { stale_.resize(labels_.size(), 0); }

  // graph_blocks.cpp
  static std::size_t block_stride(const GraphSettings& settings);
  void append_blocks(std::size_t total);
  void clear_blocks(Slot slot);
  void encode_blocks(Slot slot, Walk& walk);
  void rename_blocks(Slot slot, const std::vector<Slot>& renamed);

  // graph_remove.cpp
  void mend();
  void close_up();
  void rebuild();

  GraphSettings settings_;
  std::size_t block_stride_;
  FixedPoints points_;
  Array<std::uint8_t> blocks_;
  Array<Slot> links_, entries_;
  std::vector<std::uint8_t> stale_;  // links changed since the slot was filled and its blocks were encoded
  std::size_t unchecked_ = 0, sampled_at_ = 0;
  std::size_t finished_ = 0;  // slots before it have been filled and encoded

  mutable Spaces<Walk> walks_;
  mutable std::vector<std::atomic_flag> slot_locks_;  // only while several threads change links
};

}  // namespace seedbed::index

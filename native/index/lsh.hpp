// Locality-sensitive hashing by random hyperplanes (Charikar 2002): in each table a vector's key is the signs of its products
// with `bits` random directions. A query looks into the bucket of its own key and into those that differ in the bits it is
// least sure of (multi-probe, Lv et al. 2007), and ranks what it finds by the vectors themselves.
//
// Slots of one bucket form a chain: `heads` by key, `next` by slot.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "index/gate.hpp"
#include "index/panels.hpp"
#include "index/storage.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

struct LshContentView {
  std::span<const float> origin, vectors;
  std::span<const std::int64_t> labels;
  std::span<const std::uint32_t> keys;  // (tables, count)
};

class Lsh {
 public:
  Lsh(std::size_t dim, bool l2, std::size_t tables, std::size_t bits, std::uint64_t seed);

  // As in Hnsw. Throw std::invalid_argument on ids that are there already or are not there, and then change nothing.
  void add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);
  void remove(const std::int64_t* ids, std::size_t count);

  // `probes`: buckets a table, and more where these hold fewer than k.
  void search(const float* queries, std::size_t count, std::size_t k, std::size_t probes,
              const std::vector<std::int64_t>* allowed, std::size_t threads, float* distances, std::int64_t* ids) const;

  std::vector<std::uint32_t> keys() const;  // (tables, count), a copy
  LshContentView content() const;           // views into the index, but for the keys
  void restore(const LshContentView& content);

  std::size_t size() const;
  std::size_t dim() const { return dim_; }
  std::size_t memory_bytes() const;
  std::vector<std::int64_t> ids() const;

 private:
  struct Table {
    Array<std::uint32_t> keys, next;      // by slot
    std::vector<std::uint32_t> heads;     // a power of two
  };
  struct Bucket;
  struct Space;

  std::size_t stride() const { return simd::padded(dim_); }
  void project(const float* rows, std::size_t count, std::size_t threads, std::vector<float>& out) const;
  std::uint32_t key(const float* projections) const;
  std::size_t home(const Table& table, std::uint32_t key) const;
  void link(Table& table, std::uint32_t slot) const;
  void unlink(Table& table, std::uint32_t slot) const;
  void chain_all(Table& table, std::size_t expected) const;
  void need_label_map() const;
  void walk(Space& space, const std::vector<std::uint8_t>& mask) const;
  void start(Space& space, const float* projections) const;
  void gather(Space& space, const float* projections, std::size_t probes, std::size_t wanted,
              const std::vector<std::uint8_t>& mask) const;

  std::size_t dim_, bits_;
  bool l2_, with_origin_ = false;
  Panels planes_;
  std::vector<float> origin_;  // under l2, the mean of what was added first
  std::vector<Table> tables_;
  Array<float> vectors_;
  Array<std::int64_t> labels_;
  mutable LabelMap map_;
  mutable std::atomic<bool> mapped_ = true;
  mutable std::mutex map_mutex_;
  Gate gate_;
};

}  // namespace seedbed::index

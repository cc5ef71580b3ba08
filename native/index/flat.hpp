// Exact nearest neighbours: a scan of 8-bit codes that bounds every row from above, and exact distances of the few rows
// whose bound reaches the k-th best so far.
//
// With x = x' + e and q = q' + f, where the codes hold x' and q', <q, x> is at most <q', x'> + |q| |e| + |f| |x'|
// (Cauchy-Schwarz), so nothing that belongs to the answer is left out, whatever the vectors are. Where they are such that
// the bounds tell nothing, all rows are compared. The codes take a fourth of the vectors' memory, and a scan of them
// a fourth of the traffic and, with VNNI, of the arithmetic.
//
// Concurrency. Any number of searches run together; changes come one at a time and wait for them.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <vector>

#include "index/storage.hpp"
#include "simd/code_scan.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {

class Flat {
 public:
  Flat(std::size_t dim, bool l2);

  // Rows are finite and already normalised where the metric asks for it. Throws std::invalid_argument
  // on an id that is there already or twice, and then nothing is added.
  void add(const float* rows, const std::int64_t* ids, std::size_t count);

  // Throws std::invalid_argument on an id that is not there, and then nothing is removed. The others keep their order.
  void remove(const std::int64_t* ids, std::size_t count);

  // Writes (count, k) distances and ids, closest first, of equal ones that which was added first; padded with infinity
  // and -1. `allowed`: null, or the ids that may be returned (unknown ones are ignored).
  void search(const float* queries, std::size_t count, std::size_t k, const std::vector<std::int64_t>* allowed,
              std::size_t threads, float* distances, std::int64_t* ids) const;

  // Takes views of arrays that the caller keeps alive: vectors (n, dim), labels (n,).
  void restore(std::span<const float> vectors, std::span<const std::int64_t> labels);

  std::span<const std::int64_t> labels() const { return labels_.span(); }
  const float* row(std::size_t place) const { return vectors_.data() + place * stride_; }
  std::size_t stride() const { return stride_; }
  std::size_t dim() const { return dim_; }
  std::size_t size() const;
  std::size_t memory_bytes() const;
  std::vector<std::int64_t> ids() const;

 private:
  struct Near {
    float distance;  // smaller is closer, whatever the metric
    std::uint32_t place;
    bool operator<(const Near& other) const {
      return distance < other.distance || (distance == other.distance && place < other.place);
    }
  };
  struct CodedQuery;
  struct Scan;

  void encode(std::size_t first);
  void need_codes() const;
  void need_label_map() const;
  void scan(Scan& scan, std::size_t first_block, std::size_t last_block) const;
  void weigh(Scan& scan, std::size_t query, std::size_t first, std::size_t passed) const;
  CodedQuery coded(const float* values) const;
  void give(std::span<std::vector<Near>> parts, std::size_t wanted, float* distances, std::int64_t* ids) const;
  void compare(const float* query, std::uint32_t place, std::size_t k, std::vector<Near>& best) const;

  std::size_t dim_, stride_;
  bool l2_;
  Array<float> vectors_;
  Array<std::int64_t> labels_;
  Array<std::uint8_t> codes_;  // whole blocks of rows; made when the first search needs them
  Array<float> scales_, errors_, lengths_, offsets_;
  mutable LabelMap map_;
  mutable std::atomic<bool> mapped_ = true, all_coded_ = true;
  mutable std::mutex lazy_mutex_;
  mutable std::shared_mutex access_;
  mutable std::mutex turnstile_;  // a waiting writer holds it, so that a stream of searches cannot starve it
};

}  // namespace seedbed::index

// Inverted lists of vectors or of their codes (IVFADC, Jégou, Douze & Schmid 2011).
//
// Every metric becomes a score, larger being better: the inner product q.x, or q.x - |x|^2 / 2 under l2, which ranks as
// the distance does. In list c, x = c + r, so q.x = q.c + q.r: the query's inner products with centroids are found
// once, and q.r is estimated from the code y of r as scale * q.y. The scale |r|^2 / (r.y), kept with each vector,
// makes the estimate of a vector's product with its own residual exact (as RaBitQ does, Gao & Long 2024), and lists need no
// tables of their own. What is stored and compared is the score's negative, a rank value, as fast scans have it: -q.c + add +
// scale * (q.y), with the scale negative and add = |x|^2 / 2 under l2.
//
// Under l2 all is measured from an origin amid the data, so that large common parts do not cost precision.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "index/best.hpp"
#include "index/gate.hpp"
#include "index/panels.hpp"
#include "index/product_codes.hpp"
#include "index/storage.hpp"
#include "simd/bytes.hpp"
#include "simd/distance.hpp"
#include "simd/fastscan.hpp"

namespace seedbed::index {

enum class Codes : std::uint8_t { None, Bytes, Product };  // the vectors alone; a byte a component; product quantisation

struct IvfShape {
  std::size_t dim = 0, lists = 1;
  bool l2 = false;
  Codes codes = Codes::None;
  bool vectors = true;                   // keep the vectors themselves; always with Codes::None
  std::size_t subspaces = 0, bits = 0;   // of product codes
};

struct IvfTraining {                     // what was learnt; views
  std::span<const float> origin;         // (dim)
  std::span<const float> centroids;      // (lists, dim), measured from the origin
  std::span<const float> rotation;       // (subspaces * width, dim) with orthonormal columns, or empty
  std::span<const float> codebooks;      // (subspaces, 2^bits, width)
};

struct IvfSearch {
  std::size_t k = 10, probes = 1;
  std::size_t candidates = 0;  // best by code that are ranked again by their vectors; 0: none
  bool exact = false;          // score all that is probed by the vectors
};

struct IvfContent {  // lists one after another
  std::vector<std::uint32_t> sizes;
  std::vector<std::int64_t> labels;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales, adds, vectors;
};

struct IvfContentView {
  std::span<const std::uint32_t> sizes;
  std::span<const std::int64_t> labels;
  std::span<const std::uint8_t> codes;
  std::span<const float> scales, adds, vectors;
};

class Ivf {
 public:
  explicit Ivf(const IvfShape& shape);

  // Throws std::invalid_argument where sizes do not fit the shape, or when vectors are there.
  void train(const IvfTraining& training);
  bool trained() const;
  IvfTraining training() const;

  // As in Hnsw. Throw std::invalid_argument on ids that are there already or are not there, and then change nothing.
  void add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads);
  void remove(const std::int64_t* ids, std::size_t count);
  void search(const float* queries, std::size_t count, const IvfSearch& search, const std::vector<std::int64_t>* allowed,
              std::size_t threads, float* distances, std::int64_t* ids) const;

  IvfContent content() const;
  void restore(const IvfContentView& content);  // views of arrays that the caller keeps alive

  std::size_t size() const;
  std::size_t dim() const { return shape_.dim; }
  std::size_t memory_bytes() const;
  std::vector<std::int64_t> ids() const;
  std::vector<std::uint32_t> list_sizes() const;

 private:
  struct List {
    Array<std::uint32_t> slots;
    Array<std::uint8_t> codes;
    Array<float> scales, adds, vectors;
    std::size_t size() const { return slots.size(); }
  };
  struct Encoded {  // of some rows, in their order
    std::vector<std::uint32_t> lists;
    std::vector<std::uint8_t> codes;
    std::vector<float> scales, adds;
  };
  struct Space;   // what one worker of a search needs
  struct Asking;  // one query
  struct Filter;  // which slots are admitted, and how many in each list

  std::size_t bytes_per_code() const;
  std::size_t code_bytes(std::size_t count) const;
  bool with_scales() const { return shape_.codes != Codes::None; }
  bool with_adds() const { return shape_.codes != Codes::None && shape_.l2; }
  // Factors are stored for whole blocks, since these are scanned at once.
  static std::size_t padded(std::size_t count) { return (count + simd::kMembers - 1) / simd::kMembers * simd::kMembers; }
  std::size_t stride() const { return simd::padded(shape_.dim); }

  void encode(const float* rows, std::size_t count, std::size_t threads, Encoded& out) const;
  void encode_bytes(const float* residual, std::uint8_t* code, float* scale) const;
  void append(List& list, std::uint32_t slot, const std::uint8_t* code, float scale, float add, const float* row);
  void take_out(std::uint32_t slot);
  void need_label_map() const;

  void search_group(const float* queries, std::size_t count, const IvfSearch& search, const Filter* filter, Space& space,
                    float* distances, std::int64_t* ids) const;
  bool plan(Space& space, Asking& asking, const IvfSearch& search, const Filter* filter) const;
  void order_lists(Space& space, const float* coarse, std::size_t keep) const;
  void prepare_bytes(Asking& asking, const float* query) const;
  void scan_all(Space& space, std::size_t count, const Filter* filter, bool exact) const;
  void scan(Space& space, Asking& asking, std::uint32_t number, const Filter* filter, bool exact) const;
  template <class Push>
  void scan_blocks(Asking& asking, const List& list, float base, const Push& push) const;
  void score_bytes(Space& space, const Asking& asking, const List& list, std::size_t first, std::size_t count,
                   float base) const;
  void rank_again(Asking& asking) const;
  void emit(Asking& asking, std::size_t k, bool exact, const float* shifted, float* distances, std::int64_t* ids) const;

  IvfShape shape_;
  Array<float> origin_, centroids_, rotation_;
  Array<float> halves_;  // -|c|^2 / 2 by list
  Panels coarse_, rotating_;
  ProductCodes product_;
  bool trained_ = false;
  std::vector<List> lists_;
  Array<std::int64_t> labels_;             // by slot
  Array<std::uint32_t> list_of_, place_;   // by slot

  mutable LabelMap map_;
  mutable std::atomic<bool> mapped_ = true;
  mutable std::mutex map_mutex_;
  Gate gate_;
};

}  // namespace seedbed::index

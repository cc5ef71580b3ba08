#include "index/lsh.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "index/admitted.hpp"
#include "index/best.hpp"
#include "index/exact.hpp"
#include "index/parallel.hpp"
#include "index/random.hpp"

namespace seedbed::index {
namespace {

constexpr std::uint32_t kNone = LabelMap::kNone;
constexpr std::size_t kMaxVectors = 0xFFFFFFF0u;
constexpr std::size_t kQueries = 48;
constexpr std::size_t kTogether = 16;  // buckets that are walked side by side, so that their misses overlap

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

double normal(std::uint64_t seed, std::uint64_t i) {  // Box & Muller 1958
  const double radius = std::sqrt(-2 * std::log(random_unit(seed, 0, i)));
  return radius * std::cos(6.283185307179586 * random_unit(seed, 1, i));
}

// Some of a key's bits, to be turned over: `set` over their ranks by how unsure they are, `last` the highest of these.
struct Turn {
  float cost;  // sum of the squared products whose signs are turned
  std::uint32_t table, set, last;
  bool operator<(const Turn& other) const {  // a heap's front is the cheapest
    if (cost != other.cost) return cost > other.cost;
    return table != other.table ? table > other.table : set > other.set;
  }
};

}  // namespace

struct Lsh::Bucket {
  const Table* table;
  std::uint32_t key, slot;
};

struct Lsh::Space {
  std::vector<float> projections;  // of a group of queries
  std::vector<std::uint32_t> seen, found;
  std::uint32_t epoch = 0;
  std::vector<std::uint8_t> ranks;  // (tables, bits): which bit is the surest but n
  std::vector<std::uint32_t> own;   // keys of the query, by table
  std::vector<Turn> heap;
  std::vector<Bucket> buckets;
  std::vector<Candidate> pool;
  Array<float> query;
};

Lsh::Lsh(std::size_t dim, bool l2, std::size_t tables, std::size_t bits, std::uint64_t seed)
    : dim_(dim), bits_(bits), l2_(l2), origin_(dim, 0.0f), tables_(tables) {
  require(dim > 0 && tables > 0 && bits > 0 && bits <= 32, "tables are needed, and 1 to 32 bits");
  std::vector<float> planes(tables * bits * dim);
  for (std::size_t i = 0; i < planes.size(); ++i) planes[i] = static_cast<float>(normal(seed, i));
  planes_.pack(planes.data(), tables * bits, dim, nullptr, nullptr);
  for (Table& table : tables_) chain_all(table, 0);
}

void Lsh::project(const float* rows, std::size_t count, std::size_t threads, std::vector<float>& out) const {
  std::vector<float> shifted(rows, rows + count * dim_);
  if (l2_)
    for (std::size_t i = 0; i < shifted.size(); ++i) shifted[i] -= origin_[i % dim_];
  out.resize(count * planes_.size());
  planes_.products(shifted.data(), count, threads, out.data());
}

std::uint32_t Lsh::key(const float* projections) const {
  std::uint32_t key = 0;
  for (std::size_t bit = 0; bit < bits_; ++bit) key |= static_cast<std::uint32_t>(projections[bit] > 0) << bit;
  return key;
}

std::size_t Lsh::home(const Table& table, std::uint32_t key) const {
  const std::uint64_t mixed = key * 0x9E3779B97F4A7C15ull;
  return static_cast<std::size_t>(mixed >> 32) & (table.heads.size() - 1);
}

void Lsh::link(Table& table, std::uint32_t slot) const {
  std::uint32_t& head = table.heads[home(table, table.keys[slot])];
  table.next.writable()[slot] = head;
  head = slot;
}

void Lsh::unlink(Table& table, std::uint32_t slot) const {
  std::uint32_t* at = &table.heads[home(table, table.keys[slot])];
  while (*at != slot) at = table.next.writable() + *at;
  *at = table.next[slot];
}

void Lsh::chain_all(Table& table, std::size_t expected) const {
  std::size_t size = 16;
  while (size < expected) size *= 2;
  table.heads.assign(size, kNone);
  table.next.resize(table.keys.size(), kNone);
  for (std::uint32_t slot = 0; slot < table.keys.size(); ++slot) link(table, slot);
}

void Lsh::add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  if (l2_ && !with_origin_ && count > 0) {  // no search reads it while there are no vectors
    const auto lock = gate_.write();
    std::vector<double> sum(dim_, 0.0);
    for (std::size_t i = 0; i < count * dim_; ++i) sum[i % dim_] += rows[i];
    for (std::size_t d = 0; d < dim_; ++d) origin_[d] = static_cast<float>(sum[d] / static_cast<double>(count));
    with_origin_ = true;
  }
  std::vector<float> projections;
  project(rows, count, threads, projections);
  const auto lock = gate_.write();
  require(labels_.size() + count < kMaxVectors, "too many vectors");
  need_label_map();
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  const std::size_t before = labels_.size(), after = before + count;
  labels_.grow(after);
  vectors_.grow(after * stride());
  map_.reserve(after, labels_.data());
  for (std::size_t i = 0; i < count; ++i) {
    const auto slot = static_cast<std::uint32_t>(before + i);
    labels_.resize(slot + std::size_t{1}, ids[i]);
    map_.insert(ids[i], slot, labels_.data());
    vectors_.resize(labels_.size() * stride(), 0.0f);
    std::copy_n(rows + i * dim_, dim_, vectors_.writable() + slot * stride());
  }
  parallel_for(tables_.size(), threads, [&](std::size_t, std::size_t t) {
    Table& table = tables_[t];
    table.keys.resize(after, 0);
    for (std::size_t i = 0; i < count; ++i)
      table.keys.writable()[before + i] = key(projections.data() + i * planes_.size() + t * bits_);
    if (after > table.heads.size()) return chain_all(table, after);
    table.next.resize(after, kNone);
    for (std::size_t slot = before; slot < after; ++slot) link(table, static_cast<std::uint32_t>(slot));
  });
}

void Lsh::remove(const std::int64_t* ids, std::size_t count) {
  const auto lock = gate_.write();
  need_label_map();
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) == kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
  for (std::size_t i = 0; i < count; ++i) {  // the last slot takes the place of the one that goes
    const std::uint32_t slot = map_.find(ids[i], labels_.data());
    const auto last = static_cast<std::uint32_t>(labels_.size() - 1);
    for (Table& table : tables_) {
      unlink(table, slot);
      if (slot != last) {
        unlink(table, last);
        table.keys.at(slot) = table.keys[last];
        link(table, slot);
      }
      table.keys.resize(last, 0);
      table.next.resize(last, 0);
    }
    map_.erase(ids[i], labels_.data());
    if (slot != last) {
      const std::int64_t label = labels_[last];
      map_.erase(label, labels_.data());
      labels_.at(slot) = label;
      map_.insert(label, slot, labels_.data());
      std::copy_n(vectors_.data() + last * stride(), stride(), vectors_.writable() + slot * stride());
    }
    labels_.resize(last, 0);
    vectors_.resize(last * stride(), 0);
  }
}

// Appends to space.found the admitted slots of space.buckets, and empties these.
void Lsh::walk(Space& space, const std::vector<std::uint8_t>& mask) const {
  std::vector<Bucket>& open = space.buckets;
  for (Bucket& bucket : open) bucket.slot = bucket.table->heads[home(*bucket.table, bucket.key)];
  while (!open.empty()) {
    std::size_t kept = 0;
    for (Bucket bucket : open) {
      const std::uint32_t slot = bucket.slot;
      if (slot == kNone) continue;
      if (bucket.table->keys[slot] == bucket.key && space.seen[slot] != space.epoch && (mask.empty() || mask[slot])) {
        space.seen[slot] = space.epoch;
        space.found.push_back(slot);
      }
      bucket.slot = bucket.table->next[slot];
      open[kept++] = bucket;
    }
    open.resize(kept);
  }
}

// Puts each table's own bucket into space.buckets and, for those to follow, its cheapest turn into space.heap.
void Lsh::start(Space& space, const float* projections) const {
  space.found.clear();
  space.heap.clear();
  space.own.clear();
  space.ranks.resize(tables_.size() * bits_);
  for (std::size_t t = 0; t < tables_.size(); ++t) {
    std::uint8_t* ranks = space.ranks.data() + t * bits_;
    std::iota(ranks, ranks + bits_, std::uint8_t{0});
    const float* products = projections + t * bits_;
    std::sort(ranks, ranks + bits_, [&](std::uint8_t a, std::uint8_t b) {
      const float x = std::abs(products[a]), y = std::abs(products[b]);
      return x < y || (x == y && a < b);
    });
    space.own.push_back(key(products));
    space.buckets.push_back({&tables_[t], space.own[t], kNone});
    const float least = products[ranks[0]];
    space.heap.push_back({least * least, static_cast<std::uint32_t>(t), 1u, 0u});
  }
  std::make_heap(space.heap.begin(), space.heap.end());
}

// Fills space.found with the admitted slots of the `probes` times tables likeliest buckets, and of more where these hold
// fewer than `wanted`, as long as that costs less than comparing all.
void Lsh::gather(Space& space, const float* projections, std::size_t probes, std::size_t wanted,
                 const std::vector<std::uint8_t>& mask) const {
  if (space.seen.size() < labels_.size()) space.seen.resize(labels_.size(), space.epoch);
  ++space.epoch;
  start(space, projections);
  const auto cost = [&](std::size_t t, std::size_t rank) {
    const float product = projections[t * bits_ + space.ranks[t * bits_ + rank]];
    return product * product;
  };
  // Lv et al., section 4.4: from a set of turned bits follow the one with its last bit moved on and the one with one more.
  const std::size_t usual = probes * tables_.size();
  for (std::size_t done = tables_.size(); !space.heap.empty(); ++done) {
    if (space.buckets.size() >= kTogether || done >= usual) walk(space, mask);
    if (done >= usual && (space.found.size() >= wanted || done >= usual + labels_.size())) break;
    std::pop_heap(space.heap.begin(), space.heap.end());
    const Turn turn = space.heap.back();
    space.heap.pop_back();
    std::uint32_t turned = space.own[turn.table];
    for (std::uint32_t set = turn.set; set != 0; set &= set - 1)
      turned ^= 1u << space.ranks[turn.table * bits_ + static_cast<std::size_t>(std::countr_zero(set))];
    space.buckets.push_back({&tables_[turn.table], turned, kNone});
    const std::uint32_t next = turn.last + 1;
    if (next >= bits_) continue;
    const float added = cost(turn.table, next), moved = turn.cost - cost(turn.table, turn.last) + added;
    space.heap.push_back({moved, turn.table, (turn.set & ~(1u << turn.last)) | 1u << next, next});
    std::push_heap(space.heap.begin(), space.heap.end());
    space.heap.push_back({turn.cost + added, turn.table, turn.set | 1u << next, next});
    std::push_heap(space.heap.begin(), space.heap.end());
  }
  walk(space, mask);
}

void Lsh::search(const float* queries, std::size_t count, std::size_t k, std::size_t probes,
                 const std::vector<std::int64_t>* allowed, std::size_t threads, float* distances, std::int64_t* ids) const {
  const float far = l2_ ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
  std::fill(distances, distances + count * k, far);
  std::fill(ids, ids + count * k, std::int64_t{-1});
  const auto lock = gate_.read();
  if (labels_.size() == 0 || k == 0 || count == 0) return;
  Admitted all;  // that may be returned; no mask where all may be
  if (allowed) {
    need_label_map();
    all = admitted(*allowed, map_, labels_);
  } else {
    all.slots.resize(labels_.size());
    std::iota(all.slots.begin(), all.slots.end(), 0u);
  }
  const std::size_t wanted = std::min(k, all.slots.size());
  if (wanted == 0) return;
  const std::size_t group = std::min(kQueries, (count + threads - 1) / threads);
  std::vector<Space> spaces(std::min(threads, count));
  const ExactScore exact(l2_);
  parallel_for((count + group - 1) / group, spaces.size(), [&](std::size_t worker, std::size_t number) {
    Space& space = spaces[worker];
    const std::size_t first = number * group, here = std::min(group, count - first);
    project(queries + first * dim_, here, 1, space.projections);
    for (std::size_t i = first; i < first + here; ++i) {
      gather(space, space.projections.data() + (i - first) * planes_.size(), probes, wanted, all.mask);
      const std::vector<std::uint32_t>& slots = space.found.size() < wanted ? all.slots : space.found;
      space.query.resize(stride(), 0.0f);
      std::copy_n(queries + i * dim_, dim_, space.query.writable());
      space.pool.resize(slots.size());
      exact.each(
          space.query.data(), stride(), slots.size(), [&](std::size_t j) { return vectors_.data() + slots[j] * stride(); },
          [&](std::size_t j, float score) { space.pool[j] = {score, 0, slots[j]}; });
      std::partial_sort(space.pool.begin(), space.pool.begin() + static_cast<std::ptrdiff_t>(wanted), space.pool.end(),
                        [&](const Candidate& a, const Candidate& b) {
                          return a.score > b.score || (a.score == b.score && labels_[a.position] < labels_[b.position]);
                        });
      for (std::size_t j = 0; j < wanted; ++j) {
        distances[i * k + j] = l2_ ? -space.pool[j].score : space.pool[j].score;
        ids[i * k + j] = labels_[space.pool[j].position];
      }
    }
  });
}

void Lsh::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(map_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(labels_.size());
  for (std::uint32_t slot = 0; slot < labels_.size(); ++slot) map_.insert(labels_[slot], slot, labels_.data());
  mapped_.store(true, std::memory_order_release);
}

std::vector<std::uint32_t> Lsh::keys() const {
  const auto lock = gate_.read();
  std::vector<std::uint32_t> out;
  for (const Table& table : tables_) out.insert(out.end(), table.keys.data(), table.keys.data() + table.keys.size());
  return out;
}

LshContentView Lsh::content() const {
  const auto lock = gate_.read();
  return {origin_, vectors_.span(), labels_.span(), {}};
}

void Lsh::restore(const LshContentView& content) {
  const auto lock = gate_.write();
  const std::size_t count = content.labels.size();
  require(labels_.size() == 0 && count < kMaxVectors, "too many vectors");
  require(content.origin.size() == dim_ && content.vectors.size() == count * stride(), "the vectors and the ids do not belong together");
  require(content.keys.size() == count * tables_.size(), "the keys and the ids do not belong together");
  require(std::all_of(content.labels.begin(), content.labels.end(), [](std::int64_t label) { return label >= 0; }),
          "an id is negative");
  origin_.assign(content.origin.begin(), content.origin.end());
  with_origin_ = count > 0;
  labels_.borrow(content.labels);
  vectors_.borrow(content.vectors);
  for (std::size_t t = 0; t < tables_.size(); ++t) {
    tables_[t].keys.borrow(content.keys.subspan(t * count, count));
    chain_all(tables_[t], count);
  }
  mapped_ = false;
}

std::size_t Lsh::size() const {
  const auto lock = gate_.read();
  return labels_.size();
}

std::vector<std::int64_t> Lsh::ids() const {
  const auto lock = gate_.read();
  return {labels_.data(), labels_.data() + labels_.size()};
}

std::size_t Lsh::memory_bytes() const {
  const auto lock = gate_.read();
  std::size_t sum = vectors_.bytes() + labels_.bytes() + map_.bytes() + planes_.bytes();
  for (const Table& table : tables_)
    sum += table.keys.bytes() + table.next.bytes() + table.heads.capacity() * sizeof(std::uint32_t);
  return sum;
}

}  // namespace seedbed::index

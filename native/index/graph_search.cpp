#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string>

#include "index/graph.hpp"
#include "index/graph_blocks.hpp"
#include "index/graph_walk.hpp"
#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kSpare = 4;  // so many more than wanted are ranked by all bits, of what a walk finds
constexpr std::size_t kScanSpare = 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Closest {  // heap order: the front is the closest
  bool operator()(const Near& a, const Near& b) const { return b < a; }
};

// Into the second cache: the first has too few lines under way to take a whole block at once.
void prefetch(const void* from, std::size_t bytes) {
  const char* line = static_cast<const char*>(from);
  for (std::size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 0, 2);
}

}  // namespace

void Walk::start(std::size_t slots) {
  if (visited.size() < slots) visited.resize(slots, 0);
  if (++epoch == 0) {
    std::fill(visited.begin(), visited.end(), std::uint16_t{0});
    epoch = 1;
  }
}

Near Graph::best_entry(const ByteQuery& query, Walk& walk) const {
  walk.values.resize(std::max(walk.values.size(), entries_.size()));
  points_.values(simd::byte_kernel(simd::level()), query, entries_.span(), walk.values.data());
  Near best{walk.values[0], entries_[0]};
  for (std::size_t i = 1; i < entries_.size(); ++i) best = std::min(best, Near{walk.values[i], entries_[i]});
  return best;
}

// A walk on one-bit codes: a slot's own value is that of its high bytes when its turn comes, and then one scan of its
// block estimates those of all its neighbours. A slot may stand in the pool several times, as seen from several sides:
// a bad estimate does not hide it. The next slot is chosen, and fetched from memory, before the current one is scanned:
// a scan hides most of the time that memory takes, and a better next slot that it may find only waits for one turn.
// Leaves the `keep` closest of the slots walked through in walk.results, sorted by their high bytes.
void Graph::search_blocks(std::size_t width, std::size_t keep, Walk& walk) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  const BlockLayout layout = block_layout(dim());
  CandidatePool& pool = walk.waiting;
  Marks& expanded = walk.expanded;
  std::vector<Near>& results = walk.results;
  expanded.start(labels_.size());
  pool.start(width);
  const Near entry = best_entry(walk.query, walk);
  pool.enter(entry.distance, entry.slot);
  results.clear();
  std::size_t lowest = 0;  // no entry of the pool before it waits to be expanded
  const auto choose = [&] {
    for (; lowest < pool.size(); ++lowest) {
      const Slot slot = pool.slot(lowest);
      if ((slot & CandidatePool::kExpanded) || !expanded.add(slot)) continue;
      pool.slot(lowest) |= CandidatePool::kExpanded;
      prefetch(points_.high(slot), points_.high_stride());
      __builtin_prefetch(&points_.shape(slot));
      prefetch(blocks_.data() + slot * block_stride_, block_stride_);
      return slot;
    }
    return kNone;
  };
  alignas(64) float estimates[rabitq::kBlock];
  std::uint32_t fresh[rabitq::kBlock];
  for (Slot slot = choose(); slot != kNone;) {
    const Slot next = choose();
    const float value = points_.value(
        walk.query, kernel.one(walk.query.bytes.data(), points_.high(slot), points_.high_stride()), slot);
    if (!removed(slot)) enter(results, keep, {value, slot});
    for (std::size_t at = 0; at < block_stride_; at += layout.bytes()) {
      const BlockView<const std::uint8_t> block{blocks_.data() + slot * block_stride_ + at, layout};
      std::uint32_t below =
          walk.table.estimate(block.codes(), block.add(), block.scale(), value, pool.limit(), estimates);
      std::size_t count = 0;
      for (; below; below &= below - 1) {  // without a branch that could not be foreseen
        fresh[count] = static_cast<std::uint32_t>(std::countr_zero(below));
        count += !expanded.has(block.slots()[fresh[count]]);
      }
      for (std::size_t i = 0; i < count; ++i)
        lowest = std::min(lowest, pool.enter(estimates[fresh[i]], block.slots()[fresh[i]]));
    }
    slot = next != kNone ? next : choose();
  }
}

bool Graph::admitted(Slot slot, const std::vector<std::uint8_t>* mask) const {
  if (!mask) return !removed(slot);
  Slot member = slot;
  do {
    if ((*mask)[member]) return true;
    member = ring_[member];
  } while (member != slot);
  return false;
}

// Not-admitted slots are walked through but fill no place among the results, so that a filter costs time, not recall.
void Graph::search_filtered(std::size_t width, Walk& walk, const std::vector<std::uint8_t>* mask) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  std::vector<Near>&candidates = walk.candidates, &results = walk.results;
  walk.start(labels_.size());
  const Near start = best_entry(walk.query, walk);
  candidates.assign(1, start);
  results.clear();
  walk.visit(start.slot);
  if (admitted(start.slot, mask)) results.push_back(start);
  walk.values.resize(std::max(walk.values.size(), degree()));
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), Closest());
    const Near current = candidates.back();
    candidates.pop_back();
    if (results.size() >= width && current.distance > results.front().distance) break;
    const Slot* around = links(current.slot);
    walk.fresh.clear();
    for (std::size_t i = 0; i < degree() && around[i] != kNone; ++i)
      if (walk.visit(around[i])) walk.fresh.push_back(around[i]);
    points_.values(kernel, walk.query, walk.fresh, walk.values.data());
    for (std::size_t i = 0; i < walk.fresh.size(); ++i) {
      const Near next{walk.values[i], walk.fresh[i]};
      if (results.size() >= width && !(next < results.front())) continue;
      candidates.push_back(next);
      std::push_heap(candidates.begin(), candidates.end(), Closest());
      if (!admitted(next.slot, mask)) continue;
      results.push_back(next);
      std::push_heap(results.begin(), results.end());
      if (results.size() > width) {
        std::pop_heap(results.begin(), results.end());
        results.pop_back();
      }
    }
  }
  std::sort(results.begin(), results.end());
}

// The `keep` closest of `slots` by the high bytes, sorted, in walk.results.
void Graph::scan(std::span<const Slot> slots, std::size_t keep, Walk& walk) const {
  constexpr std::size_t block = 1024;
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  std::vector<Near>& best = walk.results;
  best.clear();
  walk.values.resize(std::max(walk.values.size(), block));
  for (std::size_t start = 0; start < slots.size(); start += block) {
    const auto some = slots.subspan(start, std::min(block, slots.size() - start));
    points_.values(kernel, walk.query, some, walk.values.data());
    for (std::size_t i = 0; i < some.size(); ++i) {
      const Near one{walk.values[i], some[i]};
      if (best.size() >= keep && !(one < best.front())) continue;
      best.push_back(one);
      std::push_heap(best.begin(), best.end());
      if (best.size() > keep) {
        std::pop_heap(best.begin(), best.end());
        best.pop_back();
      }
    }
  }
  std::sort(best.begin(), best.end());
}

// Ranks the first `keep` of walk.results by all sixteen bits.
void Graph::rerank(std::size_t keep, Walk& walk) const {
  std::vector<Near>& results = walk.results;
  if (results.size() > keep) results.resize(keep);
  for (const Near& one : results) prefetch(points_.low(one.slot), points_.width());
  const float base = points_.exact_base(walk.query);
  for (Near& one : results) one.distance = points_.exact(walk.turned.data(), base, one.slot);
  std::sort(results.begin(), results.end());
}

float Graph::reported(float value) const {
  if (settings_.metric == Metric::L2) return value;
  return settings_.metric == Metric::Dot ? -value : 1.0f - 0.5f * value;
}

void Graph::emit(std::span<const Near> found, const std::vector<std::uint8_t>* mask, std::size_t k, float* distances,
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

// A walk on links, by the high bytes or by all sixteen bits; what it finds is left in walk.results.
void Graph::search_links(std::size_t width, bool exact, Walk& walk) const {
  // Removed slots take places in the pool as long as they are stepping stones.
  width += width * removed_in_graph_ / std::max<std::size_t>(1, labels_.size() - removed_in_graph_);
  walk.start(labels_.size());
  Near start = best_entry(walk.query, walk);
  const auto links_of = [this](Slot slot, Slot*) { return links(slot); };
  if (exact) {
    const float base = points_.exact_base(walk.query);
    const auto values = [&](std::span<const Slot> slots, float* out) {
      for (std::size_t i = 0; i < slots.size(); ++i) out[i] = points_.exact(walk.turned.data(), base, slots[i]);
    };
    values({&start.slot, 1}, &start.distance);
    walk_graph(start, width, degree(), walk, values, links_of);
  } else {
    const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
    const auto values = [&](std::span<const Slot> slots, float* out) {
      points_.values(kernel, walk.query, slots, out);
    };
    walk_graph(start, width, degree(), walk, values, links_of);
  }
  if (removed_in_graph_) std::erase_if(walk.pool, [&](const Near& one) { return removed(one.slot); });
  walk.results.swap(walk.pool);
}

void Graph::search(const float* queries, std::size_t count, const GraphSearch& how,
                   const std::vector<std::int64_t>* allowed, float* distances, std::int64_t* ids) const {
  const std::size_t k = how.k;
  std::fill(distances, distances + count * k, settings_.metric == Metric::L2 ? kInfinity : -kInfinity);
  std::fill(ids, ids + count * k, std::int64_t{-1});
  const auto reading = gate_.read();

  std::vector<std::uint8_t> mask;
  std::vector<Slot> eligible;  // filled where a scan may be wanted
  std::size_t within = live_;
  if (allowed) {
    need_label_map();
    mask.assign(labels_.size(), 0);
    for (std::int64_t label : *allowed) {
      const Slot slot = map_.find(label, labels_.data());
      if (slot != kNone) mask[slot] = 1;
    }
    within = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 1));
  }
  if (within == 0 || k == 0 || count == 0) return;
  const std::size_t wanted = std::min(k, within);
  const std::size_t width = std::max(how.width, wanted);
  const std::size_t keep = wanted + kSpare;
  // A walk has to see about width / selectivity slots and pays for each of them many times what a scan pays.
  const double selectivity = static_cast<double>(within) / static_cast<double>(labels_.size());
  const bool scanned =
      width >= within || static_cast<double>(within) * selectivity <= 16.0 * static_cast<double>(width);
  const auto need_eligible = [&] {
    for (Slot slot = 0; slot < labels_.size(); ++slot)
      if (allowed ? mask[slot] != 0 : !removed(slot)) eligible.push_back(slot);
  };
  if (scanned) need_eligible();
  std::once_flag eligible_once;
  const std::vector<std::uint8_t>* const filter = allowed ? &mask : nullptr;

  std::vector<std::unique_ptr<Walk>> walks(std::max<std::size_t>(1, std::min(how.threads, count)));
  for (auto& one : walks) one = borrow_walk();
  parallel_for(count, how.threads, [&](std::size_t worker, std::size_t i) {
    Walk& walk = *walks[worker];
    walk.turned.resize(points_.width(), 0.0f);
    points_.prepare(queries + i * dim(), walk.turned.writable(), walk.query);
    float* const out = distances + i * k;
    std::int64_t* const out_ids = ids + i * k;
    const auto scan_all = [&] {
      scan(eligible, 2 * keep + kScanSpare, walk);
      rerank(2 * keep + kScanSpare, walk);
      for (std::size_t j = 0; j < std::min(wanted, walk.results.size()); ++j) {
        out[j] = reported(walk.results[j].distance);
        out_ids[j] = labels_[walk.results[j].slot];
      }
    };
    if (scanned) return scan_all();
    if (filter) {
      search_filtered(std::max(width, keep), walk, filter);
    } else if (settings_.one_bit && !how.exact_walk) {
      walk.table.set(walk.turned.data(), points_.width());
      search_blocks(width, keep, walk);
    } else {
      search_links(std::max(width, keep), how.exact_walk, walk);
    }
    rerank(keep, walk);
    emit(walk.results, filter, wanted, out, out_ids);
    if (out_ids[wanted - 1] < 0) {  // the walk did not reach enough of the graph
      std::call_once(eligible_once, need_eligible);
      scan_all();
    }
  });
  for (auto& one : walks) give_back(std::move(one));
}

void Graph::vectors(const std::int64_t* ids, std::size_t count, float* out) const {
  const auto reading = gate_.read();
  need_label_map();
  for (std::size_t i = 0; i < count; ++i) {
    const Slot slot = map_.find(ids[i], labels_.data());
    if (slot == kNone) throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
    points_.original(slot, out + i * dim());
  }
}

std::unique_ptr<Walk> Graph::borrow_walk() const {
  const std::lock_guard lock(walk_mutex_);
  if (walks_.empty()) return std::make_unique<Walk>();
  auto one = std::move(walks_.back());
  walks_.pop_back();
  return one;
}

void Graph::give_back(std::unique_ptr<Walk> walk) const {
  const std::lock_guard lock(walk_mutex_);
  walks_.push_back(std::move(walk));
}

void Graph::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(map_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) map_.insert(labels_[slot], slot, labels_.data());
  mapped_.store(true, std::memory_order_release);
}

std::size_t Graph::size() const {
  const auto reading = gate_.read();
  return live_;
}

std::vector<std::int64_t> Graph::ids() const {
  const auto reading = gate_.read();
  std::vector<std::int64_t> out;
  out.reserve(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) out.push_back(labels_[slot]);
  return out;
}

std::size_t Graph::memory_bytes() const {
  const auto reading = gate_.read();
  return points_.bytes() + labels_.bytes() + flags_.bytes() + ring_.bytes() + links_.bytes() + blocks_.bytes() +
         entries_.bytes() + map_.bytes() + stale_.capacity();
}

}  // namespace seedbed::index

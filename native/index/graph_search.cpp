#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string>

#include "index/graph.hpp"
#include "index/graph_blocks.hpp"
#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kSpare = 4;  // so many more than wanted are ranked by all bits, of what a walk finds
constexpr std::size_t kScanSpare = 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Into the second cache: the first has too few lines under way to take a whole block at once.
void prefetch(const void* from, std::size_t bytes) {
  const char* line = static_cast<const char*>(from);
  for (std::size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(line + byte, 0, 2);
}

}  // namespace

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

void Graph::search_filtered(std::size_t width, Walk& walk, const Mask* mask) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  walk.start(labels_.size());
  walk_filtered(
      best_entry(walk.query, walk), width, degree(), walk,
      [&](std::span<const Slot> slots, float* out) { points_.values(kernel, walk.query, slots, out); },
      [this](Slot slot) { return links(slot); }, [&](Slot slot) { return admitted(slot, mask); });
}

// The `keep` closest of `slots` by the high bytes, sorted, in walk.results.
void Graph::scan(std::span<const Slot> slots, std::size_t keep, Walk& walk) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  scan_slots(slots, keep, walk,
             [&](std::span<const Slot> some, float* out) { points_.values(kernel, walk.query, some, out); });
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

// A walk on links, by the high bytes or by all sixteen bits; what it finds is left in walk.results.
void Graph::search_links(std::size_t width, bool exact, Walk& walk) const {
  // Removed slots take places in the pool as long as they are stepping stones.
  width += width * removed_in_graph_ / std::max<std::size_t>(1, labels_.size() - removed_in_graph_);
  walk.start(labels_.size());
  Near start = best_entry(walk.query, walk);
  const auto links_of = [this](Slot slot, Slot*) { return links(slot); };
  const auto walk_by = [&](const auto& values) {
    walk_graph({&start, 1}, width, degree(), walk, values, links_of,
               [this](Slot slot) { prefetch(links(slot), degree() * sizeof(Slot)); });
  };
  if (exact) {
    const float base = points_.exact_base(walk.query);
    const auto values = [&](std::span<const Slot> slots, float* out) {
      for (std::size_t i = 0; i < slots.size(); ++i) out[i] = points_.exact(walk.turned.data(), base, slots[i]);
    };
    values({&start.slot, 1}, &start.distance);
    walk_by(values);
  } else {
    const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
    walk_by([&](std::span<const Slot> slots, float* out) { points_.values(kernel, walk.query, slots, out); });
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

  constexpr double price = 16.0;  // of a vector that a walk sees, where a scan pays 1
  Asked asked(*this, allowed, k, how.width, price);
  const std::size_t wanted = asked.wanted, width = asked.width, keep = wanted + kSpare;
  if (wanted == 0 || count == 0) return;

  std::vector<std::unique_ptr<Walk>> walks(std::max<std::size_t>(1, std::min(how.threads, count)));
  for (auto& one : walks) one = walks_.borrow();
  parallel_for(count, how.threads, [&](std::size_t worker, std::size_t i) {
    Walk& walk = *walks[worker];
    walk.turned.resize(points_.width(), 0.0f);
    points_.prepare(queries + i * dim(), walk.turned.writable(), walk.query);
    float* const out = distances + i * k;
    std::int64_t* const out_ids = ids + i * k;
    const auto scan_all = [&] {
      scan(asked.eligible(), 2 * keep + kScanSpare, walk);
      rerank(2 * keep + kScanSpare, walk);
      for (std::size_t j = 0; j < std::min(wanted, walk.results.size()); ++j) {
        out[j] = reported(walk.results[j].distance);
        out_ids[j] = labels_[walk.results[j].slot];
      }
    };
    if (asked.scanned) return scan_all();
    if (asked.filter()) {
      search_filtered(std::max(width, keep), walk, asked.filter());
    } else if (settings_.one_bit && !how.exact_walk) {
      walk.table.set(walk.turned.data(), points_.width());
      search_blocks(width, keep, walk);
    } else {
      search_links(std::max(width, keep), how.exact_walk, walk);
    }
    rerank(keep, walk);
    emit(walk.results, asked.filter(), wanted, [this](float value) { return reported(value); }, out, out_ids);
    if (out_ids[wanted - 1] < 0) scan_all();  // the walk did not reach enough of the graph
  });
  for (auto& one : walks) walks_.give_back(std::move(one));
}

void Graph::vectors(const std::int64_t* ids, std::size_t count, float* out) const {
  const auto reading = gate_.read();
  for (std::size_t i = 0; i < count; ++i) points_.original(require_known(ids[i]), out + i * dim());
}

std::size_t Graph::memory_bytes() const {
  const auto reading = gate_.read();
  return slot_bytes() + points_.bytes() + links_.bytes() + blocks_.bytes() + entries_.bytes() + stale_.capacity();
}

}  // namespace seedbed::index

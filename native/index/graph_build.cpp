#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "index/graph.hpp"
#include "index/parallel.hpp"
#include "index/random.hpp"

namespace seedbed::index {
namespace {

constexpr std::uint8_t kStale = 1;
constexpr std::size_t kCopiesTried = 16;
constexpr std::size_t kFinished = 8192;  // slots that are finished while searches wait

}  // namespace

Graph::Graph(const GraphSettings& settings)
    : settings_(settings),
      block_stride_(block_stride(settings)),
      points_(settings.dim, settings.metric != Metric::Dot, settings.seed) {
  if (settings.dim == 0) throw std::invalid_argument("dim must be at least 1");
  if (settings.degree < 4 || settings.degree > 512) throw std::invalid_argument("degree must be between 4 and 512");
  if (settings.one_bit && settings.degree % rabitq::kBlock)
    throw std::invalid_argument("with one-bit codes the degree must be a multiple of 32");
  if (settings.ef_construction < 1 || settings.ef_construction > (1u << 20))
    throw std::invalid_argument("ef_construction must be between 1 and 1048576");
}

void Graph::add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  if (count == 0) return;
  {
    const auto writing = gate_.write();
    require_new(ids, count);
    const std::size_t total = labels_.size() + count;
    points_.centre_on(rows, count);
    points_.reserve(total);
    links_.grow(total * degree());
    blocks_.grow(total * block_stride_);
  }
  for (std::size_t start = 0; start < count;) {
    const auto writing = gate_.write();
    const std::size_t size = std::min(labels_.size() == 0 ? 1 : kSlice, count - start);
    add_slice(rows + start * dim(), ids + start, size, threads);
    start += size;
  }
  {
    const auto writing = gate_.write();
    unchecked_ += count;
    if (unchecked_ * 4 >= labels_.size()) {
      reconnect();
      unchecked_ = 0;
    }
  }
  for (std::size_t start = 0; start < labels_.size(); start += kFinished) {
    const auto writing = gate_.write();
    finish(static_cast<Slot>(start), std::min(kFinished, labels_.size() - start), threads);
  }
  const auto writing = gate_.write();
  finished_ = labels_.size();
  if (finished_ * 5 >= sampled_at_ * 6) choose_entries(finished_);
}

void Graph::add_slice(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  const std::size_t first = labels_.size(), total = first + count;
  need_stale();
  points_.append(rows, count);
  links_.resize(total * degree(), kNone);
  stale_.resize(total, kStale);
  append_slots(ids, count);
  append_blocks(total);
  if (finished_ == 0 && first * 5 >= sampled_at_ * 6) choose_entries(first);  // walks on blocks begin at finished slots
  insert_all(static_cast<Slot>(first), count, threads);
}

// A sample of the slots below `count` that stand in the graph.
void Graph::choose_entries(std::size_t count) {
  entries_.resize(0, kNone);
  sampled_at_ = count;
  if (count <= 4 * kEntries) {
    for (Slot slot = 0; slot < count && entries_.size() < kEntries; ++slot)
      if (in_graph(slot) && !removed(slot)) add_entry(slot);
    return;
  }
  for (std::size_t i = 0; i < 4 * kEntries && entries_.size() < kEntries; ++i) {
    const Slot slot = static_cast<Slot>(random_bits(settings_.seed, 1, i) % count);
    if (in_graph(slot) && !removed(slot)) add_entry(slot);
  }
  for (Slot slot = 0; slot < count && entries_.size() == 0; ++slot)
    if (in_graph(slot) && !removed(slot)) add_entry(slot);
}

void Graph::add_entry(Slot slot) {
  entries_.resize(entries_.size() + 1, kNone);
  entries_.at(entries_.size() - 1) = slot;
}

// Runs work(walk, slot) over slots, with a lock for each slot if there are several threads.
template <class Work>
void Graph::for_slots(Slot first, std::size_t count, std::size_t threads, const Work& work) {
  threads = std::max<std::size_t>(1, std::min(threads, count / 32));
  std::vector<std::unique_ptr<Walk>> walks(threads);
  for (auto& one : walks) one = walks_.borrow();
  if (threads > 1) slot_locks_ = std::vector<std::atomic_flag>(labels_.size());
  parallel_for(count, threads,
               [&](std::size_t worker, std::size_t i) { work(*walks[worker], static_cast<Slot>(first + i)); });
  slot_locks_.clear();
  for (auto& one : walks) walks_.give_back(std::move(one));
}

void Graph::insert_all(Slot first, std::size_t count, std::size_t threads) {
  if (entries_.size() == 0) {  // the first of all, alone
    add_entry(first);
    sampled_at_ = 0;
    return;
  }
  for_slots(first, count, threads, [&](Walk& walk, Slot slot) { insert(slot, walk); });
}

void Graph::insert(Slot slot, Walk& walk) {
  neighbourhood(slot, walk);
  if (join_ring(slot, walk.pool)) return;
  std::vector<Near>& near = walk.results;
  near = walk.pool;
  connect(slot, near, walk);
}

// The closest slots that a walk finds, in walk.pool.
void Graph::neighbourhood(Slot slot, Walk& walk) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  points_.prepare_point(slot, walk.query);
  walk.start(labels_.size());
  const Near start = best_entry(walk.query, walk);
  walk.visit(slot);
  walk_graph(
      {&start, 1}, settings_.ef_construction, degree(), walk,
      [&](std::span<const Slot> slots, float* out) { points_.values(kernel, walk.query, slots, out); },
      [this](Slot from, Slot* buffer) { return links_now(from, buffer); }, [](Slot) {});
}

// A slot's links, copied where other threads may change them meanwhile.
const Slot* Graph::links_now(Slot slot, Slot* buffer) const {
  if (slot_locks_.empty()) return links(slot);
  const SpinLock lock(&slot_locks_[slot]);
  return std::copy_n(links(slot), degree(), buffer) - degree();
}

// An exact copy of a point in the graph joins its ring instead of the graph.
bool Graph::join_ring(Slot slot, std::span<const Near> near) {
  for (std::size_t i = 0; i < near.size() && i < kCopiesTried; ++i) {
    const Slot other = near[i].slot;
    if (other == slot || removed(other) || !points_.same(slot, other)) continue;
    join(slot, other);
    return true;
  }
  return false;
}

void Graph::connect(Slot slot, std::vector<Near>& near, Walk& walk) {
  std::erase_if(near, [&](const Near& one) { return one.slot == slot; });
  const auto live = std::count_if(near.begin(), near.end(), [&](const Near& one) { return !removed(one.slot); });
  if (static_cast<std::size_t>(live) >= degree() / 2)  // else removed ones hold the place together until it is mended
    std::erase_if(near, [&](const Near& one) { return removed(one.slot); });
  select(near, degree() - degree() / 4, walk);  // the rest is for links back
  {
    const SpinLock lock(lock_of(slot));
    add_links(mutable_links(slot), degree(), near);  // others may have linked here already
    stale_[slot] = kStale;
  }
  for (const Near& one : near) link_back(one.slot, {one.distance, slot}, walk);
}

void Graph::link_back(Slot from, Near to, Walk& walk) {
  const SpinLock lock(lock_of(from));
  Slot* own = mutable_links(from);
  std::size_t count = 0;
  for (; count < degree() && own[count] != kNone; ++count)
    if (own[count] == to.slot) return;
  stale_[from] = kStale;
  if (count < degree()) {
    own[count] = to.slot;
    return;
  }
  walk.candidates.assign(1, to);
  weigh(from, {own, degree()}, walk);
  std::sort(walk.candidates.begin(), walk.candidates.end());
  select(walk.candidates, degree(), walk);
  set_links(own, degree(), walk.candidates);
}

// Adds `slots` with their distances from `from` to walk.candidates.
void Graph::weigh(Slot from, std::span<const Slot> slots, Walk& walk) const {
  points_.prepare_point(from, walk.query);
  walk.values.resize(std::max(walk.values.size(), slots.size()));
  points_.values(simd::byte_kernel(simd::level()), walk.query, slots, walk.values.data());
  for (std::size_t i = 0; i < slots.size(); ++i) walk.candidates.push_back({walk.values[i], slots[i]});
}

// The neighbour-selection heuristic (Algorithm 4): keep a candidate that is closer to the centre than to every one
// kept before it. `near` is sorted, and holds the kept ones afterwards.
void Graph::select(std::vector<Near>& near, std::size_t limit, Walk& walk) const {
  const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
  const std::size_t bytes = points_.high_stride();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < near.size() && kept < limit; ++i) {
    const Near one = near[i];
    if (kept) points_.prepare_point(one.slot, walk.query);
    bool keep = true;
    for (std::size_t j = 0; keep && j < kept; j += 4) {
      const std::uint8_t* codes[4];
      std::int32_t dots[4];
      for (std::size_t m = 0; m < 4; ++m) codes[m] = points_.high(near[std::min(j + m, kept - 1)].slot);
      kernel.four(walk.query.bytes.data(), codes, bytes, dots);
      for (std::size_t m = 0; m < 4 && j + m < kept; ++m)
        keep = keep && !(points_.value(walk.query, dots[m], near[j + m].slot) < one.distance);
    }
    if (keep) near[kept++] = one;
  }
  near.resize(kept);
}

// Links into slots that no walk from the entries can reach (pruning may take away a slot's last incoming link).
void Graph::reconnect() {
  if (entries_.size() == 0) return;
  auto walk = walks_.borrow();
  reach_all(entries_.span(), degree(), [this](Slot slot) { return links(slot); }, [&](Slot slot) {
    neighbourhood(slot, *walk);
    std::vector<Near> near = walk->pool;
    std::erase_if(near, [&](const Near& one) { return one.slot == slot; });
    if (near.empty()) return false;
    const Slot closest = near.front().slot;
    connect(slot, near, *walk);
    force_link(mutable_links(closest), degree(), slot);
    stale_[closest] = kStale;
    return true;
  });
  walks_.give_back(std::move(walk));
}

// What searches need of the rows whose links have changed.
void Graph::finish(Slot first, std::size_t count, std::size_t threads) {
  const auto from = stale_.begin() + first, to = from + static_cast<std::ptrdiff_t>(count);
  if (std::find(from, to, kStale) == to) return;
  const auto all = [&](const auto& work) {
    for_slots(first, count, threads, [&](Walk& walk, Slot slot) {
      if (stale_[slot]) work(slot, walk);
    });
  };
  all([&](Slot slot, Walk& walk) { fill(slot, walk); });
  all([&](Slot slot, Walk& walk) { encode_blocks(slot, walk); });
  std::fill(from, to, std::uint8_t{0});
}

// Fills free places with the closest of the neighbours' neighbours: a scan of a block costs the same, full or not.
void Graph::fill(Slot slot, Walk& walk) {
  if (!in_graph(slot) || removed(slot)) return;
  walk.buffer.resize(2 * degree());
  Slot *own = walk.buffer.data(), *theirs = own + degree();
  std::copy_n(links_now(slot, own), degree(), own);
  const std::size_t count = link_count(own, degree());
  if (count == degree()) return;
  walk.start(labels_.size());
  walk.visit(slot);
  for (std::size_t i = 0; i < count; ++i) walk.visit(own[i]);
  walk.fresh.clear();
  for (std::size_t i = 0; i < count; ++i) {
    const Slot* beyond = links_now(own[i], theirs);
    for (std::size_t j = 0; j < degree() && beyond[j] != kNone; ++j)
      if (!removed(beyond[j]) && walk.visit(beyond[j])) walk.fresh.push_back(beyond[j]);
  }
  walk.candidates.clear();
  weigh(slot, walk.fresh, walk);
  const std::size_t wanted = std::min(degree() - count, walk.candidates.size());
  std::partial_sort(walk.candidates.begin(), walk.candidates.begin() + static_cast<std::ptrdiff_t>(wanted),
                    walk.candidates.end());
  const SpinLock lock(lock_of(slot));
  Slot* row = mutable_links(slot);
  // Others only fill their own rows meanwhile.
  for (std::size_t i = 0; i < wanted; ++i) row[count + i] = walk.candidates[i].slot;
}

}  // namespace seedbed::index

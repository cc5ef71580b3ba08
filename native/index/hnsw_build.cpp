#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "index/hnsw.hpp"
#include "index/hnsw_walk.hpp"
#include "index/spin_lock.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kSlice = 1024;  // searches get a turn after so many insertions

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

Hnsw::Hnsw(std::size_t dim, bool l2, std::size_t m, std::size_t ef_construction, std::uint64_t seed)
    : dim_(dim), stride_(simd::padded(dim)), m_(m), ef_construction_(ef_construction), l2_(l2), seed_(seed) {
  if (dim == 0 || dim > (1u << 20)) throw std::invalid_argument("dim must be between 1 and 1048576");
  if (m < 2 || m > 512) throw std::invalid_argument("m must be between 2 and 512");
  if (ef_construction < 1 || ef_construction > (1u << 20))
    throw std::invalid_argument("ef_construction must be between 1 and 1048576");
}

int Hnsw::draw_level() {
  const double uniform = (static_cast<double>(mix(seed_ ^ mix(drawn_++)) >> 11) + 1.0) * 0x1.0p-53;
  return std::min(kMaxLevel, static_cast<int>(-std::log(uniform) / std::log(static_cast<double>(m_))));
}

void Hnsw::add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  {
    const auto writing = gate_.write();
    require_new(ids, count);
    vectors_.grow((labels_.size() + count) * stride_);
    links_.grow((labels_.size() + count) * 2 * m_);
  }
  for (std::size_t start = 0; start < count; start += kSlice) {
    const auto writing = gate_.write();
    add_slice(rows + start * dim_, ids + start, std::min(kSlice, count - start), threads);
  }
  const auto writing = gate_.write();
  unchecked_ += count;
  if (unchecked_ * 4 >= labels_.size()) {
    reconnect();
    unchecked_ = 0;
  }
}

void Hnsw::add_slice(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  const std::size_t first = labels_.size();
  append(rows, ids, count);
  std::vector<Slot> slots(count);
  for (std::size_t i = 0; i < count; ++i) slots[i] = static_cast<Slot>(first + i);
  insert_all(slots, threads);
}

void Hnsw::append(const float* rows, const std::int64_t* ids, std::size_t count) {
  const std::size_t first = labels_.size(), total = first + count;
  vectors_.resize(total * stride_, 0.0f);
  links_.resize(total * 2 * m_, kNone);
  levels_.resize(total, 0);
  upper_start_.resize(total, 0);
  for (std::size_t i = 0; i < count; ++i) {
    const Slot slot = static_cast<Slot>(first + i);
    std::copy_n(rows + i * dim_, dim_, vectors_.writable() + std::size_t{slot} * stride_);
    const int level = draw_level();
    levels_.at(slot) = static_cast<std::uint8_t>(level);
    upper_start_.at(slot) = static_cast<Slot>(upper_.size() / m_);
    if (level) upper_.resize(upper_.size() + static_cast<std::size_t>(level) * m_, kNone);
  }
  append_slots(ids, count);
}

void Hnsw::insert_all(std::span<const Slot> slots, std::size_t threads) {
  threads = std::max<std::size_t>(1, std::min(threads, slots.size() / 32));
  std::vector<std::unique_ptr<Scratch>> scratches(threads);
  for (auto& one : scratches) one = scratches_.borrow();
  if (threads == 1) {
    for (Slot slot : slots) insert<false>(slot, *scratches[0]);
  } else {
    slot_locks_ = std::vector<std::atomic_flag>(labels_.size());
    parallel_for(slots.size(), threads,
                 [&](std::size_t worker, std::size_t i) { insert<true>(slots[i], *scratches[worker]); });
    slot_locks_.clear();
  }
  for (auto& one : scratches) scratches_.give_back(std::move(one));
}

template <bool kShared>
void Hnsw::insert(Slot slot, Scratch& scratch) {
  const Distance kernel = this->kernel();
  const float* query = row(slot);
  const int level = levels_[slot];
  std::unique_lock entry_lock(entry_mutex_, std::defer_lock);
  if (kShared) entry_lock.lock();
  if (entry_ == kNone) {
    entry_ = slot;
    return;
  }
  const Slot entry = entry_;
  const int top = levels_[entry];
  if (kShared && level <= top) entry_lock.unlock();  // whoever raises the top keeps others out until it is linked

  const auto links_of = [this](Slot from, int at, [[maybe_unused]] Slot* buffer) -> const Slot* {
    if constexpr (kShared) {
      const SpinLock lock(&slot_locks_[from]);
      std::copy_n(links(from, at), width(at), buffer);
      return buffer;
    } else {
      return links(from, at);
    }
  };
  std::vector<Near> starts(1, Near{distance(kernel, query, row(entry)), entry});
  std::vector<std::vector<Near>> near(static_cast<std::size_t>(std::min(level, top)) + 1);
  for (int at = top; at >= 0; --at) {
    scratch.start(labels_.size());
    scratch.visit(slot);
    search_layer(kernel, query, starts, at, at > level ? 1 : ef_construction_, scratch, links_of);
    starts = scratch.pool;
    if (at <= level) near[static_cast<std::size_t>(at)] = scratch.pool;
  }
  if (join_ring(slot, near[0])) return;
  for (int at = std::min(level, top); at >= 0; --at) connect<kShared>(slot, at, near[static_cast<std::size_t>(at)]);
  if (level > top) entry_ = slot;
}

// An exact copy of a vector in the graph joins its ring instead of the graph.
bool Hnsw::join_ring(Slot slot, std::span<const Near> near) {
  const float itself = distance(kernel(), row(slot), row(slot));
  const float slack = 1e-5f * std::abs(itself) + std::numeric_limits<float>::min();
  for (const Near& one : near) {
    if (std::abs(one.distance - itself) > slack || removed(one.slot) || one.slot == slot) continue;
    if (std::memcmp(row(one.slot), row(slot), stride_ * sizeof(float)) != 0) continue;
    join(slot, one.slot);
    return true;
  }
  return false;
}

template <bool kShared>
void Hnsw::connect(Slot slot, int level, std::vector<Near>& near) {
  const Distance kernel = this->kernel();
  std::erase_if(near, [&](const Near& one) { return one.slot == slot; });
  const auto live = std::count_if(near.begin(), near.end(), [&](const Near& one) { return !removed(one.slot); });
  if (static_cast<std::size_t>(live) >= m_)  // else removed ones hold the place together until it is mended
    std::erase_if(near, [&](const Near& one) { return removed(one.slot); });
  select(kernel, near, m_);
  {
    const SpinLock lock(kShared ? &slot_locks_[slot] : nullptr);
    add_links(mutable_links(slot, level), width(level), near);  // others may have linked here already
  }
  for (const Near& one : near) link_back<kShared>(kernel, one.slot, Near{one.distance, slot}, level);
}

template <bool kShared>
void Hnsw::link_back(const Distance& kernel, Slot from, Near to, int level) {
  const SpinLock lock(kShared ? &slot_locks_[from] : nullptr);
  const std::size_t width = this->width(level);
  Slot* own = mutable_links(from, level);
  std::size_t count = 0;
  for (; count < width && own[count] != kNone; ++count)
    if (own[count] == to.slot) return;
  if (count < width) {
    own[count] = to.slot;
    return;
  }
  const std::vector<Slot> slots(own, own + width);
  std::vector<float> distances(width);
  distances_to(kernel, row(from), slots, distances.data());
  std::vector<Near> near(1, to);
  for (std::size_t i = 0; i < width; ++i) near.push_back({distances[i], slots[i]});
  std::sort(near.begin(), near.end());
  select(kernel, near, width);
  set_links(own, width, near);
}

// The neighbour-selection heuristic (Algorithm 4): keep a candidate that is closer to the centre than to every one
// kept before it. `near` is sorted, and holds the kept ones afterwards.
void Hnsw::select(const Distance& kernel, std::vector<Near>& near, std::size_t limit) const {
  if (near.size() <= 1) return;
  std::vector<Near> kept;
  kept.reserve(limit);
  float against[4];
  for (const Near& one : near) {
    if (kept.size() >= limit) break;
    bool keep = true;
    std::size_t i = 0;
    for (; keep && i + 4 <= kept.size(); i += 4) {
      const float* rows[4] = {row(kept[i].slot), row(kept[i + 1].slot), row(kept[i + 2].slot), row(kept[i + 3].slot)};
      kernel.four(row(one.slot), rows, stride_, against);
      for (float value : against) keep = keep && !((l2_ ? value : -value) < one.distance);
    }
    for (; keep && i < kept.size(); ++i) keep = !(distance(kernel, row(one.slot), row(kept[i].slot)) < one.distance);
    if (keep) kept.push_back(one);
  }
  near.swap(kept);
}

// Links into slots that no walk from the entry point can reach (pruning may take away a slot's last incoming link).
void Hnsw::reconnect() {
  if (entry_ == kNone) return;
  auto scratch = scratches_.borrow();
  reach_all({&entry_, 1}, width(0), [this](Slot slot) { return links(slot, 0); }, [&](Slot slot) {
    std::vector<Near> near = neighbourhood(slot, *scratch);
    if (near.empty()) return false;
    const Slot closest = near.front().slot;
    connect<false>(slot, 0, near);
    force_link(mutable_links(closest, 0), width(0), slot);
    return true;
  });
  scratches_.give_back(std::move(scratch));
}

template void Hnsw::connect<false>(Slot, int, std::vector<Near>&);

}  // namespace seedbed::index

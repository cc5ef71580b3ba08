#include <algorithm>
#include <limits>

#include "index/hnsw.hpp"
#include "index/hnsw_walk.hpp"

namespace seedbed::index {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Closest {  // heap order: the front is the closest
  bool operator()(const Near& a, const Near& b) const { return b < a; }
};

}  // namespace

void Scratch::start(std::size_t slots) {
  if (visited.size() < slots) visited.resize(slots, 0);
  if (++epoch == 0) {
    std::fill(visited.begin(), visited.end(), std::uint16_t{0});
    epoch = 1;
  }
}

Hnsw::Distance Hnsw::kernel() const { return l2_ ? simd::l2_kernel(simd::level()) : simd::dot_kernel(simd::level()); }

void Hnsw::distances_to(const Distance& kernel, const float* query, const std::vector<Slot>& slots, float* out) const {
  constexpr std::size_t ahead = 4;
  const std::size_t count = slots.size();
  const auto prefetch = [&](std::size_t i) {
    const char* line = reinterpret_cast<const char*>(row(slots[i]));
    for (std::size_t byte = 0; byte < stride_ * sizeof(float); byte += 64) __builtin_prefetch(line + byte);
  };
  for (std::size_t i = 0; i < std::min(ahead, count); ++i) prefetch(i);
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::size_t j = i + ahead; j < std::min(i + ahead + 4, count); ++j) prefetch(j);
    const float* rows[4] = {row(slots[i]), row(slots[i + 1]), row(slots[i + 2]), row(slots[i + 3])};
    kernel.four(query, rows, stride_, out + i);
  }
  for (; i < count; ++i) out[i] = kernel.one(query, row(slots[i]), stride_);
  for (i = 0; i < count; ++i) {
    const float value = l2_ ? out[i] : -out[i];
    out[i] = value == value ? value : kInfinity;  // no NaN may reach a sort
  }
}

Near Hnsw::descend(const Distance& kernel, const float* query, int until) const {
  Near best{distance(kernel, query, row(entry_)), entry_};
  for (int level = levels_[entry_]; level > until; --level)
    for (bool moved = true; moved;) {
      moved = false;
      const Slot* around = links(best.slot, level);
      for (std::size_t i = 0; i < m_ && around[i] != kNone; ++i) {
        const float d = distance(kernel, query, row(around[i]));
        if (d < best.distance) {
          best = {d, around[i]};
          moved = true;
        }
      }
    }
  return best;
}

bool Hnsw::admitted(Slot slot, const std::vector<std::uint8_t>* mask) const {
  if (!mask) return !removed(slot);
  Slot member = slot;
  do {
    if ((*mask)[member]) return true;
    member = ring_[member];
  } while (member != slot);
  return false;
}

// Not-admitted slots are walked through but fill no place among the results, so that a filter costs time, not recall.
void Hnsw::search_filtered(const Distance& kernel, const float* query, Near start, std::size_t ef, Scratch& scratch,
                           const std::vector<std::uint8_t>* mask) const {
  scratch.start(labels_.size());
  std::vector<Near>&candidates = scratch.candidates, &results = scratch.results;
  candidates.assign(1, start);
  results.clear();
  scratch.visit(start.slot);
  if (admitted(start.slot, mask)) results.push_back(start);
  std::vector<float> distances(2 * m_);
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), Closest());
    const Near current = candidates.back();
    candidates.pop_back();
    if (results.size() >= ef && current.distance > results.front().distance) break;
    const Slot* around = links(current.slot, 0);
    scratch.fresh.clear();
    for (std::size_t i = 0; i < 2 * m_ && around[i] != kNone; ++i)
      if (scratch.visit(around[i])) scratch.fresh.push_back(around[i]);
    distances_to(kernel, query, scratch.fresh, distances.data());
    for (std::size_t i = 0; i < scratch.fresh.size(); ++i) {
      const Near next{distances[i], scratch.fresh[i]};
      if (results.size() >= ef && !(next < results.front())) continue;
      candidates.push_back(next);
      std::push_heap(candidates.begin(), candidates.end(), Closest());
      if (!admitted(next.slot, mask)) continue;
      results.push_back(next);
      std::push_heap(results.begin(), results.end());
      if (results.size() > ef) {
        std::pop_heap(results.begin(), results.end());
        results.pop_back();
      }
    }
  }
  scratch.pool = results;
  std::sort(scratch.pool.begin(), scratch.pool.end());
}

void Hnsw::search_exact(const Distance& kernel, const float* query, const std::vector<Slot>& slots, std::size_t k,
                        Scratch& scratch) const {
  constexpr std::size_t block = 1024;
  std::vector<float> distances(block);
  std::vector<Near>& best = scratch.pool;
  best.clear();
  for (std::size_t start = 0; start < slots.size(); start += block) {
    const std::size_t end = std::min(start + block, slots.size());
    scratch.fresh.assign(slots.begin() + static_cast<std::ptrdiff_t>(start),
                         slots.begin() + static_cast<std::ptrdiff_t>(end));
    distances_to(kernel, query, scratch.fresh, distances.data());
    for (std::size_t i = 0; i < end - start; ++i) {
      const Near one{distances[i], slots[start + i]};
      if (best.size() >= k && !(one < best.front())) continue;
      best.push_back(one);
      std::push_heap(best.begin(), best.end());
      if (best.size() > k) {
        std::pop_heap(best.begin(), best.end());
        best.pop_back();
      }
    }
  }
  std::sort(best.begin(), best.end());
}

void Hnsw::emit(std::span<const Near> found, const std::vector<std::uint8_t>* mask, std::size_t k, float* distances,
                std::int64_t* ids) const {
  std::size_t written = 0;
  for (const Near& one : found) {
    Slot member = one.slot;
    do {
      if (written == k) return;
      if (mask ? (*mask)[member] : !removed(member)) {
        distances[written] = l2_ ? one.distance : -one.distance;
        ids[written++] = labels_[member];
      }
      member = ring_[member];
    } while (member != one.slot);
  }
}

void Hnsw::search(const float* queries, std::size_t count, std::size_t k, std::size_t ef,
                  const std::vector<std::int64_t>* allowed, std::size_t threads, float* distances,
                  std::int64_t* ids) const {
  std::fill(distances, distances + count * k, l2_ ? kInfinity : -kInfinity);
  std::fill(ids, ids + count * k, std::int64_t{-1});
  std::unique_lock gate(turnstile_);
  const std::shared_lock lock(access_);
  gate.unlock();

  std::vector<std::uint8_t> mask;
  std::vector<Slot> eligible;  // filled where an exact scan may be wanted
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
  const std::size_t width = std::max(ef, wanted);
  // A walk has to see about width / selectivity slots and pays for each of them several times what a scan pays.
  const double selectivity = static_cast<double>(within) / static_cast<double>(labels_.size());
  const bool exact = width >= within || static_cast<double>(within) * selectivity <= 8.0 * static_cast<double>(width);
  const auto need_eligible = [&] {
    for (Slot slot = 0; slot < labels_.size(); ++slot)
      if (allowed ? mask[slot] != 0 : !removed(slot)) eligible.push_back(slot);
  };
  if (exact) need_eligible();
  std::once_flag eligible_once;
  const std::vector<std::uint8_t>* const filter = allowed ? &mask : nullptr;
  const Distance kernel = this->kernel();

  std::vector<std::unique_ptr<Scratch>> scratches(std::max<std::size_t>(1, std::min(threads, count)));
  for (auto& one : scratches) one = borrow_scratch();
  parallel_for(count, threads, [&](std::size_t worker, std::size_t i) {
    Scratch& scratch = *scratches[worker];
    scratch.query.resize(stride_, 0.0f);
    float* query = scratch.query.writable();
    std::copy_n(queries + i * dim_, dim_, query);
    float* const out = distances + i * k;
    std::int64_t* const out_ids = ids + i * k;
    const auto scan = [&] {
      search_exact(kernel, query, eligible, wanted, scratch);
      for (std::size_t j = 0; j < scratch.pool.size(); ++j) {
        out[j] = l2_ ? scratch.pool[j].distance : -scratch.pool[j].distance;
        out_ids[j] = labels_[scratch.pool[j].slot];
      }
    };
    if (exact) return scan();
    const Near start = descend(kernel, query, 0);
    if (filter || removed_in_graph_) {
      search_filtered(kernel, query, start, width, scratch, filter);
    } else {
      scratch.start(labels_.size());
      search_layer(kernel, query, std::span(&start, 1), 0, width, scratch,
                   [this](Slot slot, int level, Slot*) { return links(slot, level); });
    }
    emit(scratch.pool, filter, wanted, out, out_ids);
    if (out_ids[wanted - 1] < 0) {  // the walk did not reach enough of the graph
      std::call_once(eligible_once, need_eligible);
      scan();
    }
  });
  for (auto& one : scratches) give_back(std::move(one));
}

std::unique_ptr<Scratch> Hnsw::borrow_scratch() const {
  const std::lock_guard lock(scratch_mutex_);
  if (scratches_.empty()) return std::make_unique<Scratch>();
  auto one = std::move(scratches_.back());
  scratches_.pop_back();
  return one;
}

void Hnsw::give_back(std::unique_ptr<Scratch> scratch) const {
  const std::lock_guard lock(scratch_mutex_);
  scratches_.push_back(std::move(scratch));
}

void Hnsw::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(map_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) map_.insert(labels_[slot], slot, labels_.data());
  mapped_.store(true, std::memory_order_release);
}

std::size_t Hnsw::size() const {
  const std::shared_lock lock(access_);
  return live_;
}

std::vector<std::int64_t> Hnsw::ids() const {
  const std::shared_lock lock(access_);
  std::vector<std::int64_t> out;
  out.reserve(live_);
  for (Slot slot = 0; slot < labels_.size(); ++slot)
    if (!removed(slot)) out.push_back(labels_[slot]);
  return out;
}

std::size_t Hnsw::memory_bytes() const {
  const std::shared_lock lock(access_);
  return vectors_.bytes() + labels_.bytes() + levels_.bytes() + flags_.bytes() + ring_.bytes() + links_.bytes() +
         upper_start_.bytes() + upper_.bytes() + map_.bytes();
}

}  // namespace seedbed::index

#include <algorithm>
#include <limits>

#include "index/hnsw.hpp"
#include "index/hnsw_walk.hpp"

namespace seedbed::index {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

Hnsw::Distance Hnsw::kernel() const { return l2_ ? simd::l2_kernel(simd::level()) : simd::dot_kernel(simd::level()); }

void Hnsw::distances_to(const Distance& kernel, const float* query, std::span<const Slot> slots, float* out) const {
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
  return descend(kernel, query, until, [](Slot, Slot, int, float) {});
}

std::vector<Near> Hnsw::neighbourhood(Slot slot, Scratch& scratch) const {
  const Distance kernel = this->kernel();
  const Near start = descend(kernel, row(slot), 0);
  scratch.start(labels_.size());
  search_layer(kernel, row(slot), std::span(&start, 1), 0, ef_construction_, scratch,
               [this](Slot from, int level, Slot*) { return links(from, level); });
  std::vector<Near> near = scratch.pool;
  std::erase_if(near, [&](const Near& one) { return one.slot == slot; });
  return near;
}

void Hnsw::search(const float* queries, std::size_t count, std::size_t k, std::size_t ef,
                  const std::vector<std::int64_t>* allowed, std::size_t threads, float* distances,
                  std::int64_t* ids) const {
  std::fill(distances, distances + count * k, l2_ ? kInfinity : -kInfinity);
  std::fill(ids, ids + count * k, std::int64_t{-1});
  const auto reading = gate_.read();

  constexpr double price = 8.0;  // of a vector that a walk sees, where a scan pays 1
  Asked asked(*this, allowed, k, ef, price);
  const std::size_t wanted = asked.wanted, width = asked.width;
  if (wanted == 0 || count == 0) return;
  const auto reported = [this](float value) { return l2_ ? value : -value; };
  const Distance kernel = this->kernel();

  std::vector<std::unique_ptr<Scratch>> scratches(std::max<std::size_t>(1, std::min(threads, count)));
  for (auto& one : scratches) one = scratches_.borrow();
  parallel_for(count, threads, [&](std::size_t worker, std::size_t i) {
    Scratch& scratch = *scratches[worker];
    scratch.query.resize(stride_, 0.0f);
    float* query = scratch.query.writable();
    std::copy_n(queries + i * dim_, dim_, query);
    float* const out = distances + i * k;
    std::int64_t* const out_ids = ids + i * k;
    const auto values = [&](std::span<const Slot> slots, float* to) { distances_to(kernel, query, slots, to); };
    const auto scan = [&] {
      scan_slots(asked.eligible(), wanted, scratch, values);
      for (std::size_t j = 0; j < scratch.results.size(); ++j) {
        out[j] = reported(scratch.results[j].distance);
        out_ids[j] = labels_[scratch.results[j].slot];
      }
    };
    if (asked.scanned) return scan();
    const Near start = descend(kernel, query, 0);
    scratch.start(labels_.size());
    const bool filtered = asked.filter() || removed_in_graph_;
    if (filtered) {
      walk_filtered(
          start, width, this->width(0), scratch, values, [this](Slot slot) { return links(slot, 0); },
          [&](Slot slot) { return admitted(slot, asked.filter()); });
    } else {
      search_layer(kernel, query, std::span(&start, 1), 0, width, scratch,
                   [this](Slot slot, int level, Slot*) { return links(slot, level); });
    }
    emit(filtered ? scratch.results : scratch.pool, asked.filter(), wanted, reported, out, out_ids);
    if (out_ids[wanted - 1] < 0) scan();  // the walk did not reach enough of the graph
  });
  for (auto& one : scratches) scratches_.give_back(std::move(one));
}

std::vector<Step> Hnsw::trace(const float* query, std::size_t ef) const {
  const auto reading = gate_.read();
  std::vector<Step> steps;
  if (entry_ == kNone) return steps;
  const Distance kernel = this->kernel();
  auto scratch = scratches_.borrow();
  scratch->query.resize(stride_, 0.0f);
  std::copy_n(query, dim_, scratch->query.writable());
  const float* const padded = scratch->query.data();
  const auto label = [this](Slot slot) { return slot == kNone ? std::int64_t{-1} : labels_[slot]; };
  const auto seen = [&](Slot slot, Slot from, int level, float d) {
    steps.push_back({label(slot), label(from), level, l2_ ? d : -d});
  };
  const Near start = descend(kernel, padded, 0, seen);
  Slot from = start.slot;
  const auto values = [&](std::span<const Slot> slots, float* out) {
    distances_to(kernel, padded, slots, out);
    for (std::size_t i = 0; i < slots.size(); ++i) seen(slots[i], from, 0, out[i]);
  };
  const auto around = [&](Slot slot) { return links(from = slot, 0); };
  scratch->start(labels_.size());
  if (removed_in_graph_)
    walk_filtered(start, ef, width(0), *scratch, values, around, [&](Slot slot) { return admitted(slot, nullptr); });
  else
    walk_graph(std::span(&start, 1), ef, width(0), *scratch, values, [&](Slot slot, Slot*) { return around(slot); },
               [](Slot) {});
  scratches_.give_back(std::move(scratch));
  return steps;
}

std::size_t Hnsw::memory_bytes() const {
  const auto reading = gate_.read();
  return slot_bytes() + vectors_.bytes() + levels_.bytes() + links_.bytes() + upper_start_.bytes() + upper_.bytes();
}

}  // namespace seedbed::index

#include "index/flat.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "index/admitted.hpp"
#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kRows = simd::kScanRows;
constexpr std::size_t kMaxRows = 0xFFFFFFF0u;
constexpr std::size_t kMaxCoded = 1 << 16;     // dimensions whose products of codes fit in 32 bits
constexpr std::size_t kChunkBytes = 384 << 10; // of codes, which then stay in the second cache for all queries
constexpr std::size_t kChunkBlocks = 64;
constexpr std::size_t kGroup = 64;             // queries that share each reading of the codes

// Bound on the rounding of a sum of `terms` products in float32, relative to the product of the lengths.
float rounding(std::size_t terms) { return static_cast<float>(terms + 16) * 0x1.0p-23f; }

// Codes of a vector, -127 to 127, with their scale; what they leave out has length `error`, they have length `length`.
struct Code {
  float scale, error, length;
};

template <class Put>
Code code(const float* values, std::size_t dim, const Put& put) {
  float most = 0;
  for (std::size_t j = 0; j < dim; ++j) most = std::max(most, std::abs(values[j]));
  const float scale = most / 127, inverse = 127 / most;
  if (!(scale >= std::numeric_limits<float>::min() && inverse >= std::numeric_limits<float>::min())) {
    double square = 0;  // too small or too large a scale, or no number: the codes say nothing
    for (std::size_t j = 0; j < dim; ++j) {
      put(j, 0);
      square += double{values[j]} * values[j];
    }
    return {0, std::isfinite(square) ? static_cast<float>(std::sqrt(square) * 1.00001) : kInfinity, 0};
  }
  double left = 0, kept = 0;
  for (std::size_t j = 0; j < dim; ++j) {
    const int number = static_cast<int>(std::clamp(std::lrint(values[j] * inverse), -127L, 127L));
    put(j, number);
    const double decoded = double{scale} * number, rest = values[j] - decoded;
    left += rest * rest;
    kept += decoded * decoded;
  }
  return {scale, static_cast<float>(std::sqrt(left) * 1.00001), static_cast<float>(std::sqrt(kept) * 1.00001)};
}

float length(const float* values, std::size_t dim) {
  double square = 0;
  for (std::size_t j = 0; j < dim; ++j) square += double{values[j]} * values[j];
  return static_cast<float>(std::sqrt(square) * 1.000001);
}

}  // namespace

struct Flat::CodedQuery {
  const float* values;
  std::vector<std::int8_t> codes;
  simd::ScanQuery bounds;
  std::vector<Near> best;  // a heap, the farthest in front
  float least = -kInfinity;  // bound that a row must reach to be among the best
};

struct Flat::Scan {
  std::vector<CodedQuery> queries;
  std::size_t k;
  const std::vector<std::uint8_t>* mask;
  std::vector<std::int32_t> products;
  std::vector<std::uint32_t> rows;
  std::vector<float> uppers;
  std::vector<std::pair<float, std::uint32_t>> candidates;
};

Flat::Flat(std::size_t dim, bool l2) : dim_(dim), stride_(simd::padded(dim)), l2_(l2) {
  if (dim == 0 || dim > (1u << 20)) throw std::invalid_argument("dim must be between 1 and 1048576");
}

void Flat::add(const float* rows, const std::int64_t* ids, std::size_t count) {
  const std::scoped_lock lock(turnstile_, access_);
  need_label_map();
  if (labels_.size() + count > kMaxRows) throw std::invalid_argument("the index would hold too many vectors");
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  const std::size_t first = labels_.size(), total = first + count;
  map_.reserve(total, labels_.data());
  vectors_.resize(total * stride_, 0.0f);
  labels_.resize(total, -1);
  for (std::size_t i = 0; i < count; ++i) {
    std::copy_n(rows + i * dim_, dim_, vectors_.writable() + (first + i) * stride_);
    labels_.at(first + i) = ids[i];
    map_.insert(ids[i], static_cast<std::uint32_t>(first + i), labels_.data());
  }
  if (all_coded_) encode(first);
}

void Flat::remove(const std::int64_t* ids, std::size_t count) {
  const std::scoped_lock lock(turnstile_, access_);
  need_label_map();
  std::vector<std::uint32_t> places;
  for (std::size_t i = 0; i < count; ++i) {
    places.push_back(map_.find(ids[i], labels_.data()));
    if (places.back() == LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
  }
  std::sort(places.begin(), places.end());
  const auto twice = std::adjacent_find(places.begin(), places.end());
  if (twice != places.end()) throw std::invalid_argument("id " + std::to_string(labels_[*twice]) + " is given twice");
  if (places.empty()) return;
  std::size_t to = places[0], next = 0;
  for (std::size_t from = to; from < labels_.size(); ++from) {
    if (next < places.size() && places[next] == from) {
      ++next;
      continue;
    }
    std::copy_n(row(from), stride_, vectors_.writable() + to * stride_);
    labels_.at(to++) = labels_[from];
  }
  vectors_.resize(to * stride_, 0.0f);
  labels_.resize(to, -1);
  map_.clear(to);
  for (std::size_t place = 0; place < to; ++place)
    map_.insert(labels_[place], static_cast<std::uint32_t>(place), labels_.data());
  if (all_coded_) encode(std::min<std::size_t>(places[0], to));
}

// Codes of the rows from `first` on. Searches are kept out, or wait for it.
void Flat::encode(std::size_t first) {
  if (stride_ > kMaxCoded) return;
  const std::size_t count = labels_.size(), blocks = (count + kRows - 1) / kRows;
  codes_.resize(blocks * kRows * stride_, 128);
  for (Array<float>* one : {&scales_, &errors_, &lengths_, &offsets_})
    if (one != &offsets_ || l2_) one->resize(blocks * kRows, 0.0f);
  for (std::size_t place = first; place < count; ++place) {
    std::uint8_t* at = codes_.writable() + place / kRows * kRows * stride_ + place % kRows * 4;
    const float* values = row(place);
    const Code made = code(values, stride_, [at](std::size_t j, int number) {
      at[j / 4 * 4 * kRows + j % 4] = static_cast<std::uint8_t>(number + 128);
    });
    const float whole = length(values, stride_);
    scales_.at(place) = made.scale;
    errors_.at(place) = made.error + whole * rounding(stride_);
    lengths_.at(place) = made.length;
    if (l2_) offsets_.at(place) = whole * whole * (1 - 2 * rounding(stride_));
  }
}

void Flat::need_codes() const {
  if (all_coded_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(lazy_mutex_);
  if (all_coded_.load(std::memory_order_relaxed)) return;
  const_cast<Flat*>(this)->encode(0);
  all_coded_.store(true, std::memory_order_release);
}

void Flat::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(lazy_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(labels_.size());
  for (std::size_t place = 0; place < labels_.size(); ++place)
    map_.insert(labels_[place], static_cast<std::uint32_t>(place), labels_.data());
  mapped_.store(true, std::memory_order_release);
}

void Flat::compare(const float* query, std::uint32_t place, std::size_t k, std::vector<Near>& best) const {
  const simd::DistanceKernel kernel = l2_ ? simd::l2_kernel(simd::level()) : simd::dot_kernel(simd::level());
  const float value = kernel.one(query, row(place), stride_), distance = l2_ ? value : -value;
  const Near one{distance == distance ? distance : kInfinity, place};  // no NaN may reach a sort
  if (best.size() >= k) {
    if (!(one < best.front())) return;
    std::pop_heap(best.begin(), best.end());
    best.pop_back();
  }
  best.push_back(one);
  std::push_heap(best.begin(), best.end());
}

// Exact distances of the rows that passed, the most promising first, until no bound reaches the k-th best.
void Flat::weigh(Scan& scan, std::size_t number, std::size_t first, std::size_t passed) const {
  CodedQuery& query = scan.queries[number];
  auto& candidates = scan.candidates;
  candidates.clear();
  for (std::size_t i = 0; i < passed; ++i) {
    const std::size_t place = first + scan.rows[i];
    if (place >= labels_.size() || (scan.mask && !(*scan.mask)[place])) continue;
    const float upper = scan.uppers[i];
    candidates.emplace_back(upper == upper ? upper : kInfinity, static_cast<std::uint32_t>(place));
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const auto& a, const auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); });
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].first < query.least) break;
    if (i + 2 < candidates.size()) {
      const char* line = reinterpret_cast<const char*>(row(candidates[i + 2].second));
      for (std::size_t byte = 0; byte < std::min<std::size_t>(stride_ * sizeof(float), 2048); byte += 64)
        __builtin_prefetch(line + byte);
    }
    compare(query.values, candidates[i].second, scan.k, query.best);
    if (query.best.size() < scan.k) continue;
    const float farthest = query.best.front().distance, square = query.bounds.length * query.bounds.length;
    query.least = l2_ ? square * (1 - 2 * rounding(stride_)) - farthest : -farthest;
  }
}

void Flat::scan(Scan& scan, std::size_t first_block, std::size_t last_block) const {
  const simd::ScanKernel kernel = simd::scan_kernel(simd::level());
  const std::size_t block_bytes = kRows * stride_;
  const std::size_t chunk = std::clamp<std::size_t>(kChunkBytes / block_bytes, 4, kChunkBlocks);
  const std::size_t width = chunk * kRows;
  scan.products.resize(simd::kScanQueries * width);
  scan.rows.resize(width);
  scan.uppers.resize(width);
  const std::int8_t* codes[simd::kScanQueries];
  for (std::size_t block = first_block; block < last_block; block += chunk) {
    const std::size_t blocks = std::min(chunk, last_block - block), first = block * kRows;
    const simd::ScanRowBounds bounds{scales_.data() + first, errors_.data() + first, lengths_.data() + first,
                                     l2_ ? offsets_.data() + first : nullptr};
    for (std::size_t start = 0; start < scan.queries.size(); start += simd::kScanQueries) {
      const std::size_t count = std::min(simd::kScanQueries, scan.queries.size() - start);
      for (std::size_t q = 0; q < count; ++q) codes[q] = scan.queries[start + q].codes.data();
      kernel.products(codes_.data() + block * block_bytes, blocks, stride_, codes, count, scan.products.data(), width);
      for (std::size_t q = 0; q < count; ++q) {
        const CodedQuery& query = scan.queries[start + q];
        const std::size_t passed = kernel.passing(scan.products.data() + q * width, blocks * kRows, bounds, query.bounds,
                                                  query.least, scan.rows.data(), scan.uppers.data());
        if (passed) weigh(scan, start + q, first, passed);
      }
    }
  }
}

Flat::CodedQuery Flat::coded(const float* values) const {
  CodedQuery query{values, std::vector<std::int8_t>(stride_), {}, {}};
  const Code made = code(values, stride_, [&](std::size_t j, int number) {
    query.codes[j] = static_cast<std::int8_t>(number);
  });
  query.bounds = {made.scale, length(values, stride_), made.error};
  return query;
}

void Flat::search(const float* queries, std::size_t count, std::size_t k, const std::vector<std::int64_t>* allowed,
                  std::size_t threads, float* distances, std::int64_t* ids) const {
  std::fill(distances, distances + count * k, l2_ ? kInfinity : -kInfinity);
  std::fill(ids, ids + count * k, std::int64_t{-1});
  std::unique_lock gate(turnstile_);
  const std::shared_lock lock(access_);
  gate.unlock();

  const std::size_t total = labels_.size();
  Admitted few;  // to be compared one by one
  if (allowed) {
    need_label_map();
    few = admitted(*allowed, map_, labels_);
    std::sort(few.slots.begin(), few.slots.end());  // as they lie in memory
  }
  const std::size_t within = allowed ? few.slots.size() : total, wanted = std::min(k, within);
  if (wanted == 0 || count == 0) return;
  const bool one_by_one = stride_ > kMaxCoded || within * 8 < total;  // then reading all codes costs more
  if (!one_by_one) need_codes();
  if (one_by_one && !allowed) {
    few.slots.resize(total);
    std::iota(few.slots.begin(), few.slots.end(), 0u);
  }

  threads = std::max<std::size_t>(threads, 1);
  const std::size_t units = one_by_one ? few.slots.size() : (total + kRows - 1) / kRows;
  const std::size_t group = std::clamp<std::size_t>((count + threads - 1) / threads, 1, kGroup);
  const std::size_t groups = (count + group - 1) / group;
  const std::size_t parts = groups >= threads ? 1 : std::clamp<std::size_t>(threads / groups, 1, units / 64 + 1);
  Array<float> padded;
  padded.resize(count * stride_, 0.0f);
  for (std::size_t i = 0; i < count; ++i) std::copy_n(queries + i * dim_, dim_, padded.writable() + i * stride_);

  std::vector<std::vector<Near>> best(count * parts);
  parallel_for(groups * parts, threads, [&](std::size_t, std::size_t item) {
    const std::size_t start = item / parts * group, part = item % parts, size = std::min(group, count - start);
    const std::size_t first = units * part / parts, last = units * (part + 1) / parts;
    if (one_by_one) {
      for (std::size_t q = start; q < start + size; ++q)
        for (std::size_t i = first; i < last; ++i)
          compare(padded.data() + q * stride_, few.slots[i], wanted, best[q * parts + part]);
      return;
    }
    Scan scan{{}, wanted, allowed ? &few.mask : nullptr, {}, {}, {}, {}};
    for (std::size_t q = start; q < start + size; ++q) scan.queries.push_back(coded(padded.data() + q * stride_));
    this->scan(scan, first, last);
    for (std::size_t q = 0; q < size; ++q) best[(start + q) * parts + part] = std::move(scan.queries[q].best);
  });
  for (std::size_t q = 0; q < count; ++q) give({best.data() + q * parts, parts}, wanted, distances + q * k, ids + q * k);
}

// The nearest of what was found in several parts.
void Flat::give(std::span<std::vector<Near>> parts, std::size_t wanted, float* distances, std::int64_t* ids) const {
  std::vector<Near>& found = parts[0];
  for (const std::vector<Near>& part : parts.subspan(1)) found.insert(found.end(), part.begin(), part.end());
  std::sort(found.begin(), found.end());
  for (std::size_t i = 0; i < std::min(wanted, found.size()); ++i) {
    distances[i] = l2_ ? found[i].distance : -found[i].distance;
    ids[i] = labels_[found[i].place];
  }
}

void Flat::restore(std::span<const float> vectors, std::span<const std::int64_t> labels) {
  if (labels.size() > kMaxRows || vectors.size() != labels.size() * dim_)
    throw std::invalid_argument("the vectors and the ids do not belong together");
  const std::scoped_lock lock(turnstile_, access_);
  labels_.borrow(labels);
  if (stride_ == dim_) {
    vectors_.borrow(vectors);
  } else {
    vectors_ = {};
    vectors_.resize(labels.size() * stride_, 0.0f);
    for (std::size_t place = 0; place < labels.size(); ++place)
      std::copy_n(vectors.data() + place * dim_, dim_, vectors_.writable() + place * stride_);
  }
  mapped_ = all_coded_ = false;
}

std::size_t Flat::size() const {
  const std::shared_lock lock(access_);
  return labels_.size();
}

std::vector<std::int64_t> Flat::ids() const {
  const std::shared_lock lock(access_);
  return {labels_.data(), labels_.data() + labels_.size()};
}

std::size_t Flat::memory_bytes() const {
  const std::shared_lock lock(access_);
  const std::lock_guard lazy(lazy_mutex_);
  return vectors_.bytes() + labels_.bytes() + codes_.bytes() + scales_.bytes() + errors_.bytes() + lengths_.bytes() +
         offsets_.bytes() + map_.bytes();
}

}  // namespace seedbed::index

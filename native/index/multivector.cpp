#include "index/multivector.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "index/parallel.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kMostFloat = 1u << 20;  // components of a file beyond this could overflow in a product

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

void require_distinct(const std::int64_t* ids, std::size_t count) {
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
}

bool usable(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::abs(x) <= kMostFloat; });
}

}  // namespace

void MultiVector::set_codec(std::span<const float> centroids, std::span<const float> cutoffs,
                            std::span<const float> weights) {
  const auto lock = gate_.write();
  const std::size_t count = centroids.size() / dim_;
  require(centroid_count_ == 0 && count > 0 && count < 0xFFFFFFF0u && centroids.size() == count * dim_,
          "centroids do not fit, or are there already");
  require(weights.size() == std::size_t{1} << bits_ && cutoffs.size() + 1 == weights.size() &&
              std::is_sorted(cutoffs.begin(), cutoffs.end()),
          "cutoffs and weights do not fit the bits");
  require(usable(centroids) && usable(cutoffs) && usable(weights), "the codec holds numbers that cannot be used");
  centroids_.assign(count * stride_, 0.0f);
  for (std::size_t i = 0; i < count; ++i)
    std::copy_n(centroids.data() + i * dim_, dim_, centroids_.data() + i * stride_);
  cutoffs_.assign(cutoffs.begin(), cutoffs.end());
  weights_.assign(16, 0.0f);
  std::copy(weights.begin(), weights.end(), weights_.begin());
  panels_.pack(centroids.data(), count, dim_, nullptr, nullptr);
  recent_ = std::vector<std::vector<std::uint32_t>>(count);
  list_offsets_.assign(count + 1, 0);
  centroid_count_ = count;
}

void MultiVector::encode(const float* token, std::uint32_t centroid, std::uint8_t* out) const {
  std::fill_n(out, code_bytes_, std::uint8_t{0});
  const float* base = centroids_.data() + centroid * stride_;
  const std::size_t group = simd::kCodeBytes * (8 / bits_);
  for (std::size_t d = 0; d < dim_; ++d) {
    const float residual = token[d] - base[d];
    unsigned code = 0;
    for (float cutoff : cutoffs_) code += residual > cutoff;
    const std::size_t place = d / group * simd::kCodeBytes + d % simd::kCodeBytes;
    out[place] = static_cast<std::uint8_t>(out[place] | code << (d % group / simd::kCodeBytes * bits_));
  }
}

void MultiVector::decode(std::uint64_t token, const simd::MaxSimKernel& kernel, float* out) const {
  kernel.decode(codes_.data() + token * code_bytes_, weights_.data(), bits_,
                centroids_.data() + token_centroids_[token] * stride_, code_bytes_ / simd::kCodeBytes, out);
  const std::size_t padded = simd::padded(dim_);
  std::fill(out + dim_, out + padded, 0.0f);
  const float square = simd::dot_kernel(simd::level()).one(out, out, padded);
  const float scale = square > 0 ? 1 / std::sqrt(square) : 0.0f;
  for (std::size_t d = 0; d < padded; ++d) out[d] *= scale;
}

void MultiVector::add(const float* tokens, const std::int64_t* offsets, const std::int64_t* ids, std::size_t count,
                      std::size_t threads) {
  const auto lock = gate_.write();
  const auto fresh = static_cast<std::size_t>(offsets[count]);
  const std::size_t before = starts_[labels_.size()];
  require(fresh == 0 || trained(), "the index is not trained");
  require_distinct(ids, count);
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  require(labels_.size() + count < 0xFFFFFFF0u, "the index would hold too many documents");

  std::vector<std::uint32_t> nearest(fresh);
  if (fresh > 0) {
    std::vector<float> values(fresh);
    panels_.nearest(tokens, fresh, threads, nearest.data(), values.data());
  }
  token_centroids_.grow(before + fresh);  // both have room, or none is changed
  codes_.grow((before + fresh) * code_bytes_);
  token_centroids_.resize(before + fresh, 0);
  codes_.resize((before + fresh) * code_bytes_, 0);
  std::copy(nearest.begin(), nearest.end(), token_centroids_.writable() + before);
  std::uint8_t* const codes = codes_.writable();
  constexpr std::size_t kBlock = 512;
  parallel_for((fresh + kBlock - 1) / kBlock, threads, [&](std::size_t, std::size_t block) {
    for (std::size_t i = block * kBlock; i < std::min(fresh, (block + 1) * kBlock); ++i)
      encode(tokens + i * dim_, nearest[i], codes + (before + i) * code_bytes_);
  });
  for (std::size_t i = 0; i < count; ++i) {
    const auto document = static_cast<std::uint32_t>(labels_.size());
    starts_.resize(document + 2, before + static_cast<std::uint64_t>(offsets[i + 1]));
    labels_.resize(document + 1, ids[i]);
    removed_.push_back(0);
    map_.insert(ids[i], document, labels_.data());
    ++live_;
    list(document);
  }
  if (recent_count_ * 4 > lists_.size()) rebuild_lists();
  if (codes_.file()) codes_.file()->settle();
  if (token_centroids_.file()) token_centroids_.file()->settle();
}

void MultiVector::list(std::uint32_t document) {
  std::vector<std::uint32_t> own(token_centroids_.data() + starts_[document], token_centroids_.data() + starts_[document + 1]);
  std::sort(own.begin(), own.end());
  own.erase(std::unique(own.begin(), own.end()), own.end());
  for (std::uint32_t centroid : own) recent_[centroid].push_back(document);
  recent_count_ += own.size();
}

void MultiVector::rebuild_lists() {
  std::vector<std::uint32_t> last(centroid_count_, LabelMap::kNone);  // the latest document that a centroid was seen in
  const auto each = [&](const auto& visit) {
    std::fill(last.begin(), last.end(), LabelMap::kNone);
    for (std::uint32_t document = 0; document < labels_.size(); ++document)
      for (std::uint64_t i = starts_[document]; i < starts_[document + 1]; ++i)
        if (std::uint32_t& seen = last[token_centroids_[i]]; seen != document) {
          seen = document;
          visit(token_centroids_[i], document);
        }
  };
  list_offsets_.assign(centroid_count_ + 1, 0);
  each([&](std::uint32_t centroid, std::uint32_t) { ++list_offsets_[centroid + 1]; });
  for (std::size_t c = 0; c < centroid_count_; ++c) list_offsets_[c + 1] += list_offsets_[c];
  lists_ = std::vector<std::uint32_t>(list_offsets_.back());
  std::vector<std::uint64_t> place(list_offsets_.begin(), list_offsets_.end() - 1);
  each([&](std::uint32_t centroid, std::uint32_t document) { lists_[place[centroid]++] = document; });
  recent_ = std::vector<std::vector<std::uint32_t>>(centroid_count_);
  recent_count_ = 0;
}

void MultiVector::remove(const std::int64_t* ids, std::size_t count) {
  const auto lock = gate_.write();
  require_distinct(ids, count);
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) == LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
  for (std::size_t i = 0; i < count; ++i) {
    removed_[map_.find(ids[i], labels_.data())] = 1;
    map_.erase(ids[i], labels_.data());
  }
  live_ -= count;
  if ((labels_.size() - live_) * 5 > labels_.size()) compact();
}

// Live documents close up, in their order.
void MultiVector::compact() {
  Array<std::int64_t> labels;
  Array<std::uint64_t> starts;
  Array<std::uint32_t> token_centroids;
  Array<std::uint8_t> codes;
  if (codes_.file()) {
    codes.spill(codes_.file()->folder());
    token_centroids.spill(codes_.file()->folder());
  }
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < labels_.size(); ++i) total += removed_[i] ? 0 : tokens_of(static_cast<std::uint32_t>(i));
  labels.resize(live_, 0);
  starts.resize(live_ + 1, 0);
  token_centroids.resize(total, 0);
  codes.resize(total * code_bytes_, 0);
  std::uint64_t at = 0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    if (removed_[i]) continue;
    const std::uint64_t first = starts_[i], count = starts_[i + 1] - first;
    if (count > 0) {
      std::copy_n(token_centroids_.data() + first, count, token_centroids.writable() + at);
      std::copy_n(codes_.data() + first * code_bytes_, count * code_bytes_, codes.writable() + at * code_bytes_);
    }
    at += count;
    labels.at(next) = labels_[i];
    starts.at(++next) = at;
  }
  labels_.swap(labels);
  starts_.swap(starts);
  token_centroids_.swap(token_centroids);
  codes_.swap(codes);
  removed_.assign(live_, 0);
  map_.clear(live_);
  for (std::uint32_t i = 0; i < live_; ++i) map_.insert(labels_[i], i, labels_.data());
  rebuild_lists();
}

MultiVectorState MultiVector::compacted_state() {
  const auto lock = gate_.write();
  if (live_ < labels_.size()) compact();
  return {{centroids_.data(), centroids_.size()}, cutoffs_, {weights_.data(), trained() ? std::size_t{1} << bits_ : 0},
          labels_.span(), starts_.span(), token_centroids_.span(), codes_.span()};
}

void MultiVector::restore(const MultiVectorState& state) {
  require(!state.starts.empty() && state.labels.size() + 1 == state.starts.size() && state.labels.size() < 0xFFFFFFF0u &&
              state.starts.front() == 0 && state.starts.back() == state.token_centroids.size() &&
              std::is_sorted(state.starts.begin(), state.starts.end()) &&
              state.codes.size() == state.token_centroids.size() * code_bytes_,
          "documents, tokens and codes do not belong together");
  require(!state.centroids.empty() || state.token_centroids.empty(), "tokens have no centroids");
  if (!state.centroids.empty()) {
    const std::size_t count = state.centroids.size() / stride_;
    require(state.centroids.size() == count * stride_, "the centroids have another dimension");
    std::vector<float> unpadded(count * dim_);
    for (std::size_t i = 0; i < count; ++i)
      std::copy_n(state.centroids.data() + i * stride_, dim_, unpadded.data() + i * dim_);
    set_codec(unpadded, state.cutoffs, state.weights);
  }
  const auto lock = gate_.write();
  for (std::uint32_t centroid : state.token_centroids) require(centroid < centroid_count_, "a token names no centroid");
  require_distinct(state.labels.data(), state.labels.size());
  labels_.borrow(state.labels);
  starts_.borrow(state.starts);
  token_centroids_.borrow(state.token_centroids);
  codes_.borrow(state.codes);
  live_ = labels_.size();
  removed_.assign(live_, 0);
  map_.clear(live_);
  for (std::uint32_t i = 0; i < live_; ++i) map_.insert(labels_[i], i, labels_.data());
  rebuild_lists();
}

std::int64_t MultiVector::first_known(const std::int64_t* ids, std::size_t count) const {
  const auto lock = gate_.read();
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone) return ids[i];
  return -1;
}

std::vector<float> MultiVector::decoded(std::int64_t id) const {
  const auto lock = gate_.read();
  const std::uint32_t document = map_.find(id, labels_.data());
  if (document == LabelMap::kNone) throw std::invalid_argument("id " + std::to_string(id) + " is not in the index");
  const simd::MaxSimKernel kernel = simd::maxsim_kernel(simd::level());
  std::vector<float> out(tokens_of(document) * dim_), token(stride_ + simd::kLane);
  for (std::size_t i = 0; i < tokens_of(document); ++i) {
    decode(starts_[document] + i, kernel, token.data());
    std::copy_n(token.data(), dim_, out.data() + i * dim_);
  }
  return out;
}

std::size_t MultiVector::size() const {
  const auto lock = gate_.read();
  return live_;
}

std::size_t MultiVector::token_count() const {
  const auto lock = gate_.read();
  return starts_[labels_.size()];
}

std::size_t MultiVector::memory_bytes() const {
  const auto lock = gate_.read();
  std::size_t recent = recent_.capacity() * sizeof(recent_[0]);
  for (const auto& one : recent_) recent += one.capacity() * 4;
  return recent + centroids_.capacity() * 4 + panels_.bytes() + labels_.bytes() + starts_.bytes() +
         token_centroids_.bytes() + codes_.bytes() + removed_.capacity() + list_offsets_.capacity() * 8 +
         lists_.capacity() * 4 + map_.bytes();
}

}  // namespace seedbed::index

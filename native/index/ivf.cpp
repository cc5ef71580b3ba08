#include "index/ivf.hpp"

#include <cmath>
#include <numeric>
#include <stdexcept>

#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kMaxVectors = 0xFFFFFFF0u;
constexpr std::size_t kChunk = 192;  // rows that are encoded together

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

void copy_into(Array<float>& to, std::span<const float> from) {
  to.resize(from.size(), 0.0f);
  std::copy(from.begin(), from.end(), to.writable());
}

// What makes scale * y.r equal |r|^2, kept within reason where y has little to do with r.
float fitting_scale(double row_square, double code_square, double product) {
  if (product <= 0 || code_square <= 0) return 0.0f;
  return static_cast<float>(std::min(row_square / product, 4 * std::sqrt(row_square / code_square)));
}

}  // namespace

Ivf::Ivf(const IvfShape& shape) : shape_(shape), lists_(shape.lists) {
  require(shape.dim > 0 && shape.lists > 0, "a dimension and lists are needed");
  require(shape.codes != Codes::None || shape.vectors, "either codes or vectors must be kept");
  require(shape.codes != Codes::Bytes || shape.dim <= (1u << 16), "the dimension is too large for codes of bytes");
  require(shape.codes != Codes::Product || (shape.subspaces > 0 && (shape.bits == 4 || shape.bits == 8)),
          "product codes need subspaces, and 4 or 8 bits");
}

void Ivf::train(const IvfTraining& training) {
  const auto lock = gate_.write();
  const std::size_t dim = shape_.dim;
  require(labels_.size() == 0, "there are vectors already");
  require(training.origin.size() == dim && training.centroids.size() == shape_.lists * dim, "wrong number of centroids");
  if (shape_.codes == Codes::Product) {
    const std::size_t entries = shape_.subspaces << shape_.bits;
    require(training.codebooks.size() % entries == 0 && !training.codebooks.empty(), "wrong size of codebooks");
    const std::size_t width = training.codebooks.size() / entries, turned = width * shape_.subspaces;
    require(turned >= dim, "the codebooks cover less than the dimension");
    require(training.rotation.empty() || training.rotation.size() == turned * dim, "wrong size of the rotation");
    product_.set(training.codebooks.data(), shape_.subspaces, shape_.bits, width);
    copy_into(rotation_, training.rotation);
    if (rotation_.size()) rotating_.pack(rotation_.data(), turned, dim, nullptr, nullptr);
  }
  copy_into(origin_, training.origin);
  copy_into(centroids_, training.centroids);
  coarse_.pack(centroids_.data(), shape_.lists, dim, nullptr, nullptr);
  halves_.resize(shape_.lists, 0.0f);
  for (std::size_t l = 0; l < shape_.lists; ++l) {
    const float* centroid = centroids_.data() + l * dim;
    halves_.writable()[l] = -0.5f * std::inner_product(centroid, centroid + dim, centroid, 0.0f);
  }
  trained_ = true;
}

bool Ivf::trained() const {
  const auto lock = gate_.read();
  return trained_;
}

IvfTraining Ivf::training() const {
  const auto lock = gate_.read();
  return {origin_.span(), centroids_.span(), rotation_.span(), product_.codebooks().span()};
}

std::size_t Ivf::bytes_per_code() const {
  if (shape_.codes == Codes::Product) return shape_.subspaces;
  return shape_.codes == Codes::Bytes ? (shape_.dim + simd::kByteLane - 1) / simd::kByteLane * simd::kByteLane : 0;
}

std::size_t Ivf::code_bytes(std::size_t count) const {
  if (shape_.codes == Codes::Product) return (count + simd::kMembers - 1) / simd::kMembers * product_.block_bytes();
  return count * bytes_per_code();
}

void Ivf::encode(const float* rows, std::size_t count, std::size_t threads, Encoded& out) const {
  const std::size_t dim = shape_.dim, width = product_.dim(), per_code = bytes_per_code();
  const bool coded = shape_.codes != Codes::None;
  out.lists.resize(count);
  out.codes.resize(count * per_code);
  out.scales.resize(with_scales() ? count : 0);
  out.adds.resize(with_adds() ? count : 0);
  parallel_for((count + kChunk - 1) / kChunk, threads, [&](std::size_t, std::size_t chunk) {
    const std::size_t first = chunk * kChunk, here = std::min(kChunk, count - first);
    std::vector<float> shifted(here * dim), values(here), turned;
    for (std::size_t i = 0; i < here * dim; ++i) shifted[i] = rows[first * dim + i] - origin_[i % dim];
    coarse_.nearest(shifted.data(), here, 1, out.lists.data() + first, values.data());
    if (!coded) return;
    for (std::size_t i = 0; i < here; ++i) {
      float* row = shifted.data() + i * dim;
      if (with_adds()) out.adds[first + i] = 0.5f * std::inner_product(row, row + dim, row, 0.0f);
      const float* centroid = centroids_.data() + out.lists[first + i] * dim;
      for (std::size_t d = 0; d < dim; ++d) row[d] -= centroid[d];
    }
    std::uint8_t* codes = out.codes.data() + first * per_code;
    if (shape_.codes == Codes::Bytes) {
      for (std::size_t i = 0; i < here; ++i)
        encode_bytes(shifted.data() + i * dim, codes + i * per_code, &out.scales[first + i]);
      return;
    }
    turned.resize(here * width);
    if (rotation_.size()) rotating_.products(shifted.data(), here, 1, turned.data());
    else
      for (std::size_t i = 0; i < here; ++i) std::copy_n(shifted.data() + i * dim, dim, turned.data() + i * width);
    product_.encode(turned.data(), here, codes);
    std::vector<float> decoded(width);
    for (std::size_t i = 0; i < here; ++i) {
      product_.decode(codes + i * per_code, decoded.data());
      const float* row = turned.data() + i * width;
      const double row_square = std::inner_product(row, row + width, row, 0.0);
      const double code_square = std::inner_product(decoded.begin(), decoded.end(), decoded.begin(), 0.0);
      out.scales[first + i] =
          -fitting_scale(row_square, code_square, std::inner_product(row, row + width, decoded.begin(), 0.0));
    }
  });
}

// Components from -127 to 127, stored with 128 added, so that a scan multiplies unsigned by signed bytes.
void Ivf::encode_bytes(const float* residual, std::uint8_t* code, float* scale) const {
  float largest = 0;
  for (std::size_t d = 0; d < shape_.dim; ++d) largest = std::max(largest, std::abs(residual[d]));
  const float factor = largest > 0 ? 127 / largest : 0;
  double row_square = 0, code_square = 0, product = 0;
  for (std::size_t d = 0; d < shape_.dim; ++d) {
    const float whole = std::round(residual[d] * factor);
    code[d] = static_cast<std::uint8_t>(whole + 128);
    row_square += static_cast<double>(residual[d]) * residual[d];
    code_square += static_cast<double>(whole) * whole;
    product += static_cast<double>(residual[d]) * whole;
  }
  *scale = -fitting_scale(row_square, code_square, product);
}

void Ivf::add(const float* rows, const std::int64_t* ids, std::size_t count, std::size_t threads) {
  require(trained_, "not trained");
  Encoded encoded;
  encode(rows, count, threads, encoded);  // searches go on meanwhile
  const auto lock = gate_.write();
  require(labels_.size() + count < kMaxVectors, "too many vectors");
  need_label_map();
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  std::vector<std::size_t> sizes(lists_.size());
  for (std::size_t l = 0; l < lists_.size(); ++l) sizes[l] = lists_[l].size();
  for (std::uint32_t list : encoded.lists) ++sizes[list];
  for (std::size_t l = 0; l < lists_.size(); ++l) {
    List& list = lists_[l];
    if (sizes[l] == list.size()) continue;
    list.slots.grow(sizes[l]);
    list.codes.grow(code_bytes(sizes[l]));
    if (with_scales()) list.scales.grow(padded(sizes[l]));
    if (with_adds()) list.adds.grow(padded(sizes[l]));
    if (shape_.vectors) list.vectors.grow(sizes[l] * stride());
  }
  labels_.grow(labels_.size() + count);
  list_of_.grow(labels_.size() + count);
  place_.grow(labels_.size() + count);
  map_.reserve(labels_.size() + count, labels_.data());
  for (std::size_t i = 0; i < count; ++i) {
    const auto slot = static_cast<std::uint32_t>(labels_.size());
    List& list = lists_[encoded.lists[i]];
    labels_.resize(slot + std::size_t{1}, ids[i]);
    list_of_.resize(slot + std::size_t{1}, encoded.lists[i]);
    place_.resize(slot + std::size_t{1}, static_cast<std::uint32_t>(list.size()));
    map_.insert(ids[i], slot, labels_.data());
    append(list, slot, encoded.codes.data() + i * bytes_per_code(), with_scales() ? encoded.scales[i] : 0.0f,
           with_adds() ? encoded.adds[i] : 0.0f, rows + i * shape_.dim);
  }
}

void Ivf::append(List& list, std::uint32_t slot, const std::uint8_t* code, float scale, float add, const float* row) {
  const std::size_t position = list.size();
  list.slots.resize(position + 1, slot);
  list.codes.resize(code_bytes(position + 1), std::uint8_t{0});
  if (shape_.codes == Codes::Product) product_.put(list.codes.writable(), position, code);
  if (shape_.codes == Codes::Bytes) std::copy_n(code, bytes_per_code(), list.codes.writable() + code_bytes(position));
  const auto put = [&](Array<float>& factors, float value) {
    factors.resize(padded(position + 1), 0.0f);
    factors.at(position) = value;
  };
  if (with_scales()) put(list.scales, scale);
  if (with_adds()) put(list.adds, add);
  if (!shape_.vectors) return;
  list.vectors.resize((position + 1) * stride(), 0.0f);
  std::copy_n(row, shape_.dim, list.vectors.writable() + position * stride());
}

void Ivf::remove(const std::int64_t* ids, std::size_t count) {
  const auto lock = gate_.write();
  need_label_map();
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) == LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t slot = map_.find(ids[i], labels_.data());
    const auto last = static_cast<std::uint32_t>(labels_.size() - 1);
    take_out(slot);
    map_.erase(ids[i], labels_.data());
    if (slot != last) {  // the last slot takes its place
      const std::int64_t label = labels_[last];
      map_.erase(label, labels_.data());
      labels_.at(slot) = label;
      list_of_.at(slot) = list_of_[last];
      place_.at(slot) = place_[last];
      lists_[list_of_[slot]].slots.at(place_[slot]) = slot;
      map_.insert(label, slot, labels_.data());
    }
    labels_.resize(last, 0);
    list_of_.resize(last, 0);
    place_.resize(last, 0);
  }
}

// The last vector of the list takes the place of the one that goes.
void Ivf::take_out(std::uint32_t slot) {
  List& list = lists_[list_of_[slot]];
  const std::size_t hole = place_[slot], last = list.size() - 1;
  list.slots.at(hole) = list.slots[last];
  place_.at(list.slots[last]) = static_cast<std::uint32_t>(hole);
  if (shape_.codes == Codes::Product) {
    std::vector<std::uint8_t> code(shape_.subspaces);
    product_.get(list.codes.data(), last, code.data());
    product_.put(list.codes.writable(), hole, code.data());
    std::fill(code.begin(), code.end(), std::uint8_t{0});
    product_.put(list.codes.writable(), last, code.data());
  } else if (shape_.codes == Codes::Bytes) {
    const std::size_t bytes = bytes_per_code();
    std::copy_n(list.codes.data() + last * bytes, bytes, list.codes.writable() + hole * bytes);
  }
  const auto move = [&](Array<float>& factors) {
    factors.at(hole) = factors[last];
    factors.at(last) = 0;
    factors.resize(padded(last), 0);
  };
  if (with_scales()) move(list.scales);
  if (with_adds()) move(list.adds);
  if (shape_.vectors) std::copy_n(list.vectors.data() + last * stride(), stride(), list.vectors.writable() + hole * stride());
  list.slots.resize(last, 0);
  list.codes.resize(code_bytes(last), 0);
  if (shape_.vectors) list.vectors.resize(last * stride(), 0);
}

void Ivf::need_label_map() const {
  if (mapped_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(map_mutex_);
  if (mapped_.load(std::memory_order_relaxed)) return;
  map_.clear(labels_.size());
  for (std::uint32_t slot = 0; slot < labels_.size(); ++slot) map_.insert(labels_[slot], slot, labels_.data());
  mapped_.store(true, std::memory_order_release);
}

IvfContent Ivf::content() const {
  const auto lock = gate_.read();
  IvfContent out;
  const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.data(), from.data() + from.size()); };
  for (const List& list : lists_) {
    out.sizes.push_back(static_cast<std::uint32_t>(list.size()));
    for (std::uint32_t slot : list.slots.span()) out.labels.push_back(labels_[slot]);
    join(out.codes, list.codes);
    join(out.scales, list.scales);
    join(out.adds, list.adds);
    join(out.vectors, list.vectors);
  }
  return out;
}

void Ivf::restore(const IvfContentView& content) {
  const auto lock = gate_.write();
  require(trained_ || content.labels.empty(), "vectors without a partition");
  require(labels_.size() == 0 && content.sizes.size() == lists_.size(), "the lists are not as many as the settings say");
  std::size_t count = 0, bytes = 0, factors = 0;
  for (std::uint32_t size : content.sizes) {
    count += size;
    bytes += trained_ ? code_bytes(size) : 0;
    factors += padded(size);
  }
  require(count == content.labels.size() && count < kMaxVectors, "the sizes of the lists and the ids do not belong together");
  require(content.codes.size() == bytes, "the codes and the ids do not belong together");
  require(content.scales.size() == (with_scales() ? factors : 0) && content.adds.size() == (with_adds() ? factors : 0),
          "the factors and the ids do not belong together");
  require(content.vectors.size() == (shape_.vectors ? count * stride() : 0), "the vectors and the ids do not belong together");
  require(std::all_of(content.labels.begin(), content.labels.end(), [](std::int64_t label) { return label >= 0; }),
          "an id is negative");
  labels_.borrow(content.labels);
  list_of_.resize(count, 0);
  place_.resize(count, 0);
  std::size_t first = 0, at = 0, factor = 0;
  for (std::size_t l = 0; l < lists_.size(); ++l) {
    List& list = lists_[l];
    const std::size_t size = content.sizes[l];
    list.slots.resize(size, 0);
    for (std::size_t i = 0; i < size; ++i) {
      list.slots.writable()[i] = static_cast<std::uint32_t>(first + i);
      list_of_.writable()[first + i] = static_cast<std::uint32_t>(l);
      place_.writable()[first + i] = static_cast<std::uint32_t>(i);
    }
    list.codes.borrow(content.codes.subspan(at, trained_ ? code_bytes(size) : 0));
    if (with_scales()) list.scales.borrow(content.scales.subspan(factor, padded(size)));
    if (with_adds()) list.adds.borrow(content.adds.subspan(factor, padded(size)));
    if (shape_.vectors) list.vectors.borrow(content.vectors.subspan(first * stride(), size * stride()));
    at += list.codes.size();
    factor += padded(size);
    first += size;
  }
  mapped_ = false;
}

std::size_t Ivf::size() const {
  const auto lock = gate_.read();
  return labels_.size();
}

std::size_t Ivf::memory_bytes() const {
  const auto lock = gate_.read();
  std::size_t sum = origin_.bytes() + centroids_.bytes() + rotation_.bytes() + coarse_.bytes() + rotating_.bytes() +
                    product_.bytes() + halves_.bytes() + labels_.bytes() + list_of_.bytes() + place_.bytes() + map_.bytes() +
                    lists_.size() * sizeof(List);
  for (const List& list : lists_)
    sum += list.slots.bytes() + list.codes.bytes() + list.scales.bytes() + list.adds.bytes() + list.vectors.bytes();
  return sum;
}

std::vector<std::int64_t> Ivf::ids() const {
  const auto lock = gate_.read();
  return {labels_.data(), labels_.data() + labels_.size()};
}

std::vector<std::uint32_t> Ivf::list_sizes() const {
  const auto lock = gate_.read();
  std::vector<std::uint32_t> sizes;
  for (const List& list : lists_) sizes.push_back(static_cast<std::uint32_t>(list.size()));
  return sizes;
}

}  // namespace seedbed::index

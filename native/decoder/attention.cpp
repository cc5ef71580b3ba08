// Attention of the decoder's step: new keys and values go to the cache, then each block of queries looks at its row of it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "decoder/forward.hpp"

namespace seedbed::decoder {

// A vector goes to its place, which is counted in elements.
void Forward::keep(const float* vector, std::size_t width, std::byte* to, std::size_t at) const {
  if (cache_->precision == Precision::Float32) {
    std::memcpy(to + 4 * at, vector, 4 * width);
    return;
  }
  for (std::size_t d = 0; d < width; ++d) {
    const std::uint16_t bits = simd::to_bfloat16(vector[d]);
    std::memcpy(to + 2 * (at + d), &bits, 2);
  }
}

// Queries and keys are normalised and turned; keys and values go to their places in the cache.
void Forward::place(const Layer& layer, std::size_t number, std::size_t thread) {
  const Shape& shape = model_->shape;
  const std::size_t dim = shape.head_dim, units = shape.heads + shape.groups, all = count_ * units;
  const Rotation* rotation = shape.rotary ? &model_->rotations[layer.rotation] : nullptr;
  for (std::size_t unit = all * thread / threads_; unit < all * (thread + 1) / threads_; ++unit) {
    const std::size_t token = unit / units, head = unit % units;
    float* vector = qkv_.data() + token * qkv_stride_ + head * dim;
    const bool query = head < shape.heads;
    const auto position = static_cast<std::size_t>(tokens_.positions[token]);
    const float* norm = query ? layer.query_norm : layer.key_norm;
    if (norm) kernels_->rms_norm(vector, norm, shape.epsilon, dim, vector);
    if (rotation) kernels_->rotate(vector, rotation->cosines + position * dim, rotation->sines + position * dim, dim);
    if (query) continue;
    const std::size_t group = head - shape.heads;
    const std::size_t row = static_cast<std::size_t>(tokens_.rows[token]) * cache_->capacity + position;
    const std::size_t at = (row * shape.groups + group) * dim;
    keep(vector, dim, cache_->keys[number], at);
    keep(vector + shape.groups * dim, dim, cache_->values[number], at);
  }
}

void Forward::attend(const Layer& layer, std::size_t number, std::size_t thread) {
  for (std::size_t task; (task = next_task_[number].fetch_add(1, std::memory_order_relaxed)) < tasks_.size();)
    attend(layer, number, tasks_[task], workers_[thread]);
}

void Forward::attend(const Layer& layer, std::size_t number, const Task& task, Worker& worker) {
  const Shape& shape = model_->shape;
  const std::size_t dim = shape.head_dim, padded = round_up(dim, kPadding), tokens = task.last - task.first;
  const auto precision = static_cast<std::size_t>(cache_->precision);
  const std::size_t width = bytes_of(cache_->precision), step = shape.groups * dim * width;
  const std::size_t group = task.head / (shape.heads / shape.groups);
  const auto start = static_cast<std::size_t>(tokens_.positions[task.first]);
  const std::size_t end = start + tokens, rows = tokens * task.heads;
  // Columns [from, end), and before them the first ones that stay visible.
  const std::size_t from = layer.window && start + 1 > layer.window ? start + 1 - layer.window : 0;
  const std::size_t kept = std::min(layer.window ? shape.sink_tokens : 0, from);
  const std::size_t seen = kept + end - from, stride = round_up(seen, 16);

  if (worker.queries.size() < rows * padded) worker.queries.resize(rows * padded);
  if (worker.scores.size() < rows * stride) worker.scores.resize(rows * stride);
  for (std::size_t r = 0; r < rows; ++r) {
    const float* query = qkv_.data() + (task.first + r / task.heads) * qkv_stride_ + (task.head + r % task.heads) * dim;
    float* to = worker.queries.data() + r * padded;
    std::fill(to, to + padded, 0.0f);
    if (cache_->precision == Precision::Float32) {
      for (std::size_t d = 0; d < dim; ++d) to[d] = query[d] * shape.scale;
      continue;
    }
    const std::size_t lanes = kernels_->lanes;
    for (std::size_t d = 0; d < dim; ++d)
      to[d / (2 * lanes) * 2 * lanes + d % 2 * lanes + d % (2 * lanes) / 2] = query[d] * shape.scale;
  }
  const std::size_t row = static_cast<std::size_t>(tokens_.rows[task.first]) * cache_->capacity;
  const std::byte* keys = cache_->keys[number] + row * step + group * dim * width;
  const std::byte* values = cache_->values[number] + row * step + group * dim * width;
  float* scores = worker.scores.data();
  const auto score = [&](std::size_t first, std::size_t count, float* to) {
    kernels_->score[precision](worker.queries.data(), padded, rows, keys + first * step, step, count, dim, to, stride);
  };
  if (kept) score(0, kept, scores);
  score(from, end - from, scores + kept);

  Buffer& shares = worker.shares;  // of each row: one over the sum of its exponentials
  if (shares.size() < rows * (padded + 1)) shares.assign(rows * (padded + 1), 0.0f);
  for (std::size_t r = 0; r < rows; ++r) {
    float* own = scores + r * stride;
    const std::size_t position = start + r / task.heads, visible = kept + position + 1 - from;
    if (shape.soft_cap != 0) kernels_->soft_cap(own, shape.soft_cap, visible);
    // Of the block's columns, those that this query's window has left behind.
    if (layer.window && position + 1 > layer.window && position + 1 - layer.window > from)
      for (std::size_t column = from; column < position + 1 - layer.window; ++column)
        if (column >= shape.sink_tokens) own[kept + column - from] = -std::numeric_limits<float>::infinity();
    float largest = layer.sinks ? layer.sinks[task.head + r % task.heads] : -std::numeric_limits<float>::infinity();
    const float sink = largest;
    float total = kernels_->exponentials(own, visible, &largest);
    if (layer.sinks) total += std::exp(sink - largest);
    std::fill(own + visible, own + seen, 0.0f);
    shares[r] = 1 / total;
  }
  float* mixed = worker.queries.data();  // which are done with
  kernels_->mix[precision](scores + kept, stride, rows, values + from * step, step, end - from, dim, shares.data(), mixed, padded);
  if (kept) {
    float* first = shares.data() + rows;
    kernels_->mix[precision](scores, stride, rows, values, step, kept, dim, shares.data(), first, padded);
    for (std::size_t i = 0; i < rows * padded; ++i) mixed[i] += first[i];
  }
  for (std::size_t r = 0; r < rows; ++r)
    std::copy_n(mixed + r * padded, dim,
                mixed_.data() + (task.first + r / task.heads) * mixed_stride_ + (task.head + r % task.heads) * dim);
}

}  // namespace seedbed::decoder

#include "decoder/forward.hpp"

#include <algorithm>
#include <array>

namespace seedbed::decoder {
namespace {

constexpr std::size_t kShare = kPanelRows;  // outputs are shared out to threads in multiples of it

// What thread `thread` of `threads` does of `count` pieces: [first, second).
std::pair<std::size_t, std::size_t> share(std::size_t count, std::size_t thread, std::size_t threads,
                                          std::size_t step = 1) {
  const std::size_t steps = (count + step - 1) / step;
  return {std::min(count, steps * thread / threads * step), std::min(count, steps * (thread + 1) / threads * step)};
}

void grow(Buffer& buffer, std::size_t count) {
  if (buffer.size() < count) buffer.assign(count, 0.0f);
}

}  // namespace

void Forward::run(const Model& model, const Tokens& tokens, const Cache& cache, std::span<const std::int64_t> wanted,
                  float* logits, std::size_t threads) {
  const std::lock_guard lock(mutex_);
  model_ = &model;
  cache_ = &cache;
  tokens_ = tokens;
  wanted_ = wanted;
  out_ = logits;
  count_ = tokens.ids.size();
  kernels_ = &kernels(simd::level());
  Pool::shared().run(
      threads, [&](std::size_t found) { prepare(found); }, [&](std::size_t thread) { work(thread); });
}

void Forward::prepare(std::size_t threads) {
  const Shape& shape = model_->shape;
  threads_ = threads;
  barrier_.emplace(threads);
  const std::size_t queries = shape.heads * shape.head_dim, keys = shape.groups * shape.head_dim;
  width_stride_ = round_up(shape.width, kPadding);
  qkv_stride_ = queries + 2 * keys;
  mixed_stride_ = round_up(queries, kPadding);
  wide_stride_ = 2 * round_up(shape.intermediate, kPadding);
  grow(x_, count_ * width_stride_);
  grow(qkv_, count_ * qkv_stride_);
  grow(mixed_, count_ * mixed_stride_);
  grow(wide_, count_ * wide_stride_);
  if (workers_.size() < threads) workers_.resize(threads);
  const std::size_t columns = std::max({shape.width, queries, shape.intermediate});
  for (std::size_t thread = 0; thread < threads; ++thread) {
    grow(workers_[thread].normed, std::max(count_, wanted_.size()) * width_stride_);
    grow(workers_[thread].scratch, scratch_floats(columns));
  }
  if (next_task_.size() != model_->layers.size())
    next_task_ = std::vector<std::atomic<std::size_t>>(model_->layers.size());
  for (auto& next : next_task_) next.store(0, std::memory_order_relaxed);

  // Blocks of about kQueries queries; where rows and groups are fewer than threads, a group's heads are shared out.
  constexpr std::size_t kQueries = 24;
  const std::size_t repeats = shape.heads / shape.groups;
  tasks_.clear();
  std::size_t blocks = 0;
  const std::size_t most = std::max<std::size_t>(1, kQueries / repeats);
  for (int pass = 0; pass < 2; ++pass) {
    const std::size_t wanted = (threads + blocks * shape.groups - 1) / std::max<std::size_t>(1, blocks * shape.groups);
    const std::size_t heads = pass == 0 ? repeats : std::max<std::size_t>(1, repeats / std::max<std::size_t>(1, wanted));
    blocks = 0;
    for (std::size_t first = 0; first < count_;) {
      std::size_t last = first + 1;
      while (last < count_ && last - first < most && tokens_.rows[last] == tokens_.rows[first]) ++last;
      ++blocks;
      if (pass == 1)
        for (std::size_t head = 0; head < shape.heads; head += heads)
          tasks_.push_back({first, last, head, std::min(heads, repeats - head % repeats)});
      first = last;
    }
  }
  // Later tokens see more: they come first.
  std::reverse(tasks_.begin(), tasks_.end());
}

void Forward::work(std::size_t thread) {
  embed(thread);
  barrier_->meet();
  for (std::size_t number = 0; number < model_->layers.size(); ++number) {
    const Layer& layer = model_->layers[number];
    const float* normed = normalise_all(layer.attention_norm, thread);
    const std::array projections = {&layer.query, &layer.key, &layer.value};
    project(projections, normed, width_stride_, count_, false, qkv_.data(), qkv_stride_, thread);
    barrier_->meet();
    place(layer, number, thread);
    barrier_->meet();
    attend(layer, number, thread);
    barrier_->meet();
    const std::array output = {&layer.output};
    project(output, mixed_.data(), mixed_stride_, count_, true, x_.data(), width_stride_, thread);
    barrier_->meet();
    feed_forward(layer, thread);
    barrier_->meet();
    const std::array down = {&layer.down};
    project(down, wide_.data(), wide_stride_, count_, true, x_.data(), width_stride_, thread);
    barrier_->meet();
  }
  if (!wanted_.empty()) logits(thread);
}

void Forward::embed(std::size_t thread) {
  const Shape& shape = model_->shape;
  const auto [from, to] = share(count_, thread, threads_);
  for (std::size_t token = from; token < to; ++token) {
    float* x = x_.data() + token * width_stride_;
    Matrix row = model_->embedding;
    row.data += static_cast<std::size_t>(tokens_.ids[token]) * row.stride;
    row.outputs = 1;
    if (row.format == Format::Float32)
      std::copy_n(reinterpret_cast<const float*>(row.data), shape.width, x);
    else
      kernels_->unpack(row, shape.width, x, width_stride_);
    if (!model_->positions) continue;
    const float* place = model_->positions + static_cast<std::size_t>(tokens_.positions[token]) * shape.width;
    for (std::size_t i = 0; i < shape.width; ++i) x[i] = x[i] * shape.embedding_scale + place[i];
  }
}

void Forward::normalise(const Norm& norm, const float* x, float* out) const {
  const Shape& shape = model_->shape;
  if (shape.layer_norm)
    kernels_->layer_norm(x, norm.weight, norm.bias, shape.epsilon, shape.width, out);
  else
    kernels_->rms_norm(x, norm.weight, shape.epsilon, shape.width, out);
}

// Every thread normalises all tokens for itself, which takes less time than waiting for the others would.
float* Forward::normalise_all(const Norm& norm, std::size_t thread) {
  float* normed = workers_[thread].normed.data();
  for (std::size_t token = 0; token < count_; ++token)
    normalise(norm, x_.data() + token * width_stride_, normed + token * width_stride_);
  return normed;
}

// The thread's share of the outputs of `parts`, which lie beside each other in y.
void Forward::project(std::span<const Linear* const> parts, const float* x, std::size_t x_stride, std::size_t rows,
                      bool add, float* y, std::size_t y_stride, std::size_t thread) {
  std::size_t all = 0;
  for (const Linear* part : parts) all += part->matrix.outputs;
  const auto [from, to] = share(all, thread, threads_, kShare);
  std::size_t at = 0;
  for (const Linear* part : parts) {
    const std::size_t outputs = part->matrix.outputs;
    const std::size_t first = std::clamp(from, at, at + outputs) - at, last = std::clamp(to, at, at + outputs) - at;
    if (first < last) {
      Matrix matrix = part->matrix;
      matrix.data += first * matrix.stride;
      matrix.outputs = last - first;
      kernels_->product({x, x_stride, rows, matrix, part->bias ? part->bias + first : nullptr, add, y + at + first,
                         y_stride},
                        workers_[thread].scratch.data());
    }
    at += outputs;
  }
}

void Forward::feed_forward(const Layer& layer, std::size_t thread) {
  const Shape& shape = model_->shape;
  const float* normed = normalise_all(layer.feedforward_norm, thread);
  const bool gated = layer.gate.matrix.data != nullptr;
  const auto [from, to] = share(shape.intermediate, thread, threads_, kShare);
  if (from == to) return;
  const auto multiply = [&, from = from, to = to](const Linear& linear, float* y) {
    Matrix matrix = linear.matrix;
    matrix.data += from * matrix.stride;
    matrix.outputs = to - from;
    kernels_->product({normed, width_stride_, count_, matrix, linear.bias ? linear.bias + from : nullptr, false,
                       y + from, wide_stride_},
                      workers_[thread].scratch.data());
  };
  float* up = wide_.data() + wide_stride_ / 2;  // beside the gate's
  multiply(gated ? layer.gate : layer.up, wide_.data());
  if (gated) multiply(layer.up, up);
  for (std::size_t token = 0; token < count_; ++token)
    kernels_->activate(shape.activation, wide_.data() + token * wide_stride_ + from,
                       gated ? up + token * wide_stride_ + from : nullptr, to - from);
}

void Forward::logits(std::size_t thread) {
  const Shape& shape = model_->shape;
  float* normed = workers_[thread].normed.data();
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    float* row = normed + i * width_stride_;
    normalise(model_->norm, x_.data() + static_cast<std::size_t>(wanted_[i]) * width_stride_, row);
    if (shape.head_scale != 1)
      for (std::size_t j = 0; j < shape.width; ++j) row[j] *= shape.head_scale;
  }
  const std::array head = {&model_->head};
  project(head, normed, width_stride_, wanted_.size(), false, out_, shape.vocabulary, thread);
  if (shape.logit_soft_cap == 0) return;
  const auto [from, to] = share(shape.vocabulary, thread, threads_, kShare);
  for (std::size_t i = 0; i < wanted_.size(); ++i)
    kernels_->soft_cap(out_ + i * shape.vocabulary + from, shape.logit_soft_cap, to - from);
}

}  // namespace seedbed::decoder

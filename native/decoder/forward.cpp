#include "decoder/forward.hpp"

#include <algorithm>
#include <array>

namespace seedbed::decoder {
namespace {

constexpr std::size_t kFew = 4;  // rows that every thread prepares for itself

// What thread `thread` of `threads` does of `count` pieces: [first, second).
std::pair<std::size_t, std::size_t> share(std::size_t count, std::size_t thread, std::size_t threads,
                                          std::size_t step = 1) {
  const std::size_t steps = (count + step - 1) / step;
  return {std::min(count, steps * thread / threads * step), std::min(count, steps * (thread + 1) / threads * step)};
}

// How many pieces a matrix's outputs can be shared out in.
std::size_t steps(const Matrix& matrix) { return (matrix.outputs + matrix.step() - 1) / matrix.step(); }

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
  level_ = simd::level();
  kernels_ = &kernels(level_);
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
  const std::size_t widest = std::max({width_stride_, mixed_stride_, wide_stride_ / 2});
  const auto make_room = [&](Rows& rows, std::size_t count) {
    grow(rows.normed, count * width_stride_);
    const std::size_t bytes = count * widest * sizeof(float);  // rounded, a column takes no more
    if (rows.rounded.size() < bytes) rows.rounded.resize(bytes);
  };
  for (std::size_t thread = 0; thread < threads; ++thread) make_room(workers_[thread].rows, kFew);
  make_room(shared_, std::max(count_, wanted_.size()));
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
  const auto rows_of = [](const Buffer& buffer, std::size_t stride) {
    return [&buffer, stride](std::size_t row) { return buffer.data() + row * stride; };
  };
  for (std::size_t number = 0; number < model_->layers.size(); ++number) {
    const Layer& layer = model_->layers[number];
    const Input normed =
        input(count_, layer.query.matrix, thread, &layer.attention_norm, width_stride_, rows_of(x_, width_stride_));
    const std::array projections = {&layer.query, &layer.key, &layer.value};
    project(projections, normed, false, qkv_.data(), qkv_stride_, thread);
    barrier_->meet();
    place(layer, number, thread);
    barrier_->meet();
    attend(layer, number, thread);
    barrier_->meet();
    const Input mixed =
        input(count_, layer.output.matrix, thread, nullptr, mixed_stride_, rows_of(mixed_, mixed_stride_));
    const std::array output = {&layer.output};
    project(output, mixed, true, x_.data(), width_stride_, thread);
    barrier_->meet();
    const Input again =
        input(count_, layer.up.matrix, thread, &layer.feedforward_norm, width_stride_, rows_of(x_, width_stride_));
    feed_forward(layer, again, thread);
    barrier_->meet();
    const Input wide = input(count_, layer.down.matrix, thread, nullptr, wide_stride_, rows_of(wide_, wide_stride_));
    const std::array down = {&layer.down};
    project(down, wide, true, x_.data(), width_stride_, thread);
    barrier_->meet();
  }
  if (!wanted_.empty()) logits(thread);
}

void Forward::embed(std::size_t thread) {
  const Shape& shape = model_->shape;
  const auto [from, to] = share(count_, thread, threads_);
  for (std::size_t token = from; token < to; ++token) {
    float* x = x_.data() + token * width_stride_;
    model_->embedding.unpack(static_cast<std::size_t>(tokens_.ids[token]), x);
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

// Rows (row(0) to row(rows - 1)) normalised if there is a norm, and rounded if the matrix is packed. Few rows every thread
// prepares for itself, which takes less time than waiting for the others; of many each prepares its share.
template <class Row>
Forward::Input Forward::input(std::size_t rows, const Matrix& matrix, std::size_t thread, const Norm* norm,
                              std::size_t stride, Row row) {
  if (!norm && !matrix.packed()) return {row(0), stride, rows, nullptr};
  const bool few = rows <= kFew;
  Rows& to = few ? workers_[thread].rows : shared_;
  const auto [from, end] = few ? std::pair{std::size_t{0}, rows} : share(rows, thread, threads_);
  simd::PanelKernel kernel{};
  std::size_t rounded_stride = 0;
  if (matrix.packed()) {
    kernel = simd::panel_kernel(packing(matrix.format), level_);
    rounded_stride = matrix.blocks() * kernel.row_bytes;
  }
  for (std::size_t i = from; i < end; ++i) {
    const float* x = row(i);
    if (norm) {
      float* normed = to.normed.data() + i * width_stride_;
      normalise(*norm, x, normed);
      x = normed;
    }
    if (matrix.packed()) kernel.round(x, matrix.blocks(), to.rounded.data() + i * rounded_stride);
  }
  if (!few) barrier_->meet();
  return norm ? Input{to.normed.data(), width_stride_, rows, to.rounded.data()}
              : Input{row(0), stride, rows, to.rounded.data()};
}

// Outputs [first, last) of one matrix; `y` is that of output 0.
void Forward::multiply(const Linear& linear, std::size_t first, std::size_t last, const Input& input, bool add, float* y,
                       std::size_t y_stride) const {
  if (first >= last) return;
  const Matrix matrix = linear.matrix.part(first, last);
  const float* bias = linear.bias ? linear.bias + first : nullptr;
  if (matrix.packed())
    multiply_panels(simd::panel_kernel(packing(matrix.format), level_), input.rounded, input.rows, matrix, bias, add,
                    y + first, y_stride);
  else
    kernels_->product({input.x, input.stride, input.rows, reinterpret_cast<const float*>(matrix.data), matrix.columns,
                       matrix.outputs, matrix.columns, bias, add, y + first, y_stride});
}

// The thread's share of the outputs of `parts`, which lie beside each other in y.
void Forward::project(std::span<const Linear* const> parts, const Input& input, bool add, float* y,
                      std::size_t y_stride, std::size_t thread) const {
  std::size_t all = 0, at = 0;
  for (const Linear* part : parts) all += steps(part->matrix);
  const auto [from, to] = share(all, thread, threads_);
  for (const Linear* part : parts) {
    const Matrix& matrix = part->matrix;
    const std::size_t count = steps(matrix), first = std::clamp(from, at, at + count) - at;
    const std::size_t last = std::clamp(to, at, at + count) - at;
    multiply(*part, first * matrix.step(), std::min(last * matrix.step(), matrix.outputs), input, add, y, y_stride);
    at += count;
    y += matrix.outputs;
  }
}

void Forward::feed_forward(const Layer& layer, const Input& input, std::size_t thread) {
  const Shape& shape = model_->shape;
  const bool gated = layer.gate.matrix.data != nullptr;
  const auto [from, to] = share(shape.intermediate, thread, threads_, layer.up.matrix.step());
  float* up = wide_.data() + wide_stride_ / 2;  // beside the gate's
  multiply(gated ? layer.gate : layer.up, from, to, input, false, wide_.data(), wide_stride_);
  if (gated) multiply(layer.up, from, to, input, false, up, wide_stride_);
  for (std::size_t token = 0; token < count_ && from < to; ++token)
    kernels_->activate(shape.activation, wide_.data() + token * wide_stride_ + from,
                       gated ? up + token * wide_stride_ + from : nullptr, to - from);
}

void Forward::logits(std::size_t thread) {
  const Shape& shape = model_->shape;
  const Input normed = input(wanted_.size(), model_->head.matrix, thread, &model_->norm, width_stride_, [&](std::size_t i) {
    return x_.data() + static_cast<std::size_t>(wanted_[i]) * width_stride_;
  });
  const std::array head = {&model_->head};
  project(head, normed, false, out_, shape.vocabulary, thread);
  const auto [from, to] = share(shape.vocabulary, thread, threads_, model_->head.matrix.step());
  for (std::size_t i = 0; i < wanted_.size() && from < to; ++i) {
    float* own = out_ + i * shape.vocabulary;
    if (shape.head_scale != 1)
      for (std::size_t n = from; n < to; ++n) own[n] *= shape.head_scale;
    if (shape.logit_soft_cap != 0) kernels_->soft_cap(own + from, shape.logit_soft_cap, to - from);
  }
}

}  // namespace seedbed::decoder

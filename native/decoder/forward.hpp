// A decoder's forward pass over new tokens with a key-value cache: RMSNorm or LayerNorm before each sublayer, attention
// with fewer key-value heads than query heads or as many, one feed-forward, and the head. Weights are read where they lie.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "decoder/kernels.hpp"
#include "decoder/pool.hpp"
#include "decoder/weights.hpp"

namespace seedbed::decoder {

struct Norm {
  const float *weight = nullptr, *bias = nullptr;
};

struct Linear {
  Matrix matrix;
  const float* bias = nullptr;
};

struct Layer {
  Norm attention_norm, feedforward_norm;
  Linear query, key, value, output, gate, up, down;  // gate.matrix.data is null where there is none
  const float *query_norm = nullptr, *key_norm = nullptr, *sinks = nullptr;
  std::size_t window = 0;    // 0: all tokens
  std::size_t rotation = 0;  // which table
};

struct Rotation {  // (positions, head_dim) each
  const float *cosines = nullptr, *sines = nullptr;
  std::size_t positions = 0;
};

struct Shape {
  std::size_t vocabulary, width, heads, groups, head_dim, intermediate, sink_tokens;
  bool layer_norm, rotary;
  Activation activation;
  float epsilon, scale, soft_cap, logit_soft_cap, embedding_scale, head_scale;
};

// Tokens of one pass: those of a row lie together, in the order of their positions, which are consecutive.
struct Tokens {
  std::span<const std::int64_t> ids, rows, positions;
};

// Keys and values (rows, capacity, groups, head_dim) of each layer.
struct Cache {
  std::vector<std::byte*> keys, values;
  std::size_t rows, capacity;
  Precision precision;
};

struct Model {
  Shape shape;
  Matrix embedding;
  Linear head;
  Norm norm;
  const float* positions = nullptr;  // (position_count, width) added to embeddings, or null
  std::size_t position_count = 0;
  std::vector<Rotation> rotations;
  std::vector<Layer> layers;
};

// Aligned to cache lines, as registers are read from it.
using Buffer = std::vector<float, tokenizer::HugePages<float>>;

class Forward {
 public:
  // Logits (wanted.size(), vocabulary) of the tokens whose numbers `wanted` holds. All sizes have been checked.
  void run(const Model& model, const Tokens& tokens, const Cache& cache, std::span<const std::int64_t> wanted,
           float* logits, std::size_t threads);

 private:
  struct Task {  // attention of tokens [first, last) of one row, heads [head, head + heads) of one group
    std::size_t first, last, head, heads;
  };
  // Rows that go into a product: as they are, and rounded where the weights are packed.
  struct Rows {
    Buffer normed;
    std::vector<std::byte, tokenizer::HugePages<std::byte>> rounded;
  };
  struct Input {
    const float* x;
    std::size_t stride, rows;
    const std::byte* rounded;
  };
  struct Worker {
    Rows rows;
    Buffer queries, scores, shares;
  };

  void prepare(std::size_t threads);
  void work(std::size_t thread);
  void embed(std::size_t thread);
  void normalise(const Norm& norm, const float* x, float* out) const;
  template <class Row>
  Input input(std::size_t rows, const Matrix& matrix, std::size_t thread, const Norm* norm, std::size_t stride, Row row);
  void multiply(const Linear& linear, std::size_t first, std::size_t last, const Input& input, bool add, float* y,
                std::size_t y_stride) const;
  void project(std::span<const Linear* const> parts, const Input& input, bool add, float* y, std::size_t y_stride,
               std::size_t thread) const;
  void keep(const float* vector, std::size_t width, std::byte* to, std::size_t at) const;
  void place(const Layer& layer, std::size_t number, std::size_t thread);
  void attend(const Layer& layer, std::size_t number, std::size_t thread);
  void attend(const Layer& layer, std::size_t number, const Task& task, Worker& worker);
  void feed_forward(const Layer& layer, const Input& input, std::size_t thread);
  void logits(std::size_t thread);

  std::mutex mutex_;
  // Of the pass under way.
  const Model* model_ = nullptr;
  simd::Level level_ = simd::Level::Scalar;
  const Kernels* kernels_ = nullptr;
  const Cache* cache_ = nullptr;
  Tokens tokens_;
  std::span<const std::int64_t> wanted_;
  float* out_ = nullptr;
  std::size_t threads_ = 1, count_ = 0;
  std::size_t width_stride_ = 0, qkv_stride_ = 0, mixed_stride_ = 0, wide_stride_ = 0;
  std::vector<Task> tasks_;
  std::vector<std::atomic<std::size_t>> next_task_;  // of each layer
  std::optional<Barrier> barrier_;

  Buffer x_, qkv_, mixed_, wide_;  // grown, never shrunk; paddings stay zero
  Rows shared_;
  std::vector<Worker> workers_;
};

}  // namespace seedbed::decoder

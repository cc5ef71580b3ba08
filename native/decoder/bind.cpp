#include "decoder/bind.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "decoder/forward.hpp"

using namespace nanobind::literals;

namespace seedbed::decoder {
namespace nb = nanobind;
namespace {

using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Block = nb::ndarray<nb::ndim<4>, nb::c_contig, nb::device::cpu>;  // float32, or bfloat16 as its bits in int16

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// A matrix of weights: an array of float32 as it lies, or a packed copy of one.
class Weights {
 public:
  explicit Weights(Table array) : array_(std::move(array)) {
    matrix_ = {Format::Float32, reinterpret_cast<const std::byte*>(array_.data()), array_.shape(0), array_.shape(1)};
  }
  explicit Weights(Packed packed) : packed_(std::move(packed)) { matrix_ = packed_->matrix(); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const Matrix& matrix() const { return matrix_; }
  std::size_t bytes() const { return matrix_.bytes(); }

 private:
  Table array_;
  std::optional<Packed> packed_;
  Matrix matrix_;
};

nb::ndarray<nb::numpy, float, nb::ndim<2>> multiply(const Weights& self, const Table& rows) {
  const Matrix& matrix = self.matrix();
  require(rows.shape(1) == matrix.columns, "rows have another width than the weights");
  const std::size_t count = rows.shape(0), padded = round_up(matrix.columns, kPadding);
  float* out = new float[std::max<std::size_t>(1, count * matrix.outputs)];
  const nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    const nb::gil_scoped_release release;
    Buffer x(count * padded);
    for (std::size_t r = 0; r < count; ++r) std::copy_n(rows.data() + r * matrix.columns, matrix.columns, x.data() + r * padded);
    if (matrix.packed()) {
      const simd::PanelKernel kernel = simd::panel_kernel(packing(matrix.format), simd::level());
      const std::size_t stride = matrix.blocks() * kernel.row_bytes;
      std::vector<std::byte> rounded(count * stride);
      for (std::size_t r = 0; r < count; ++r) kernel.round(x.data() + r * padded, matrix.blocks(), rounded.data() + r * stride);
      multiply_panels(kernel, rounded.data(), count, matrix, nullptr, false, out, matrix.outputs);
    } else {
      kernels(simd::level()).product({x.data(), padded, count, reinterpret_cast<const float*>(matrix.data), matrix.columns,
                                      matrix.outputs, matrix.columns, nullptr, false, out, matrix.outputs});
    }
  }
  return nb::ndarray<nb::numpy, float, nb::ndim<2>>(out, {count, matrix.outputs}, owner);
}

// The model and all arrays that it points into.
class Step {
 public:
  explicit Step(const nb::dict& shape) {
    Shape& s = model_.shape;
    s.vocabulary = number(shape, "vocabulary");
    s.width = number(shape, "width");
    s.heads = number(shape, "heads");
    s.groups = number(shape, "groups");
    s.head_dim = number(shape, "head_dim");
    s.intermediate = number(shape, "intermediate");
    s.sink_tokens = number(shape, "sink_tokens");
    s.layer_norm = nb::cast<bool>(shape["layer_norm"]);
    s.rotary = nb::cast<bool>(shape["rotary"]);
    s.activation = static_cast<Activation>(number(shape, "activation"));
    s.epsilon = nb::cast<float>(shape["epsilon"]);
    s.scale = nb::cast<float>(shape["scale"]);
    s.soft_cap = nb::cast<float>(shape["soft_cap"]);
    s.logit_soft_cap = nb::cast<float>(shape["logit_soft_cap"]);
    s.embedding_scale = nb::cast<float>(shape["embedding_scale"]);
    s.head_scale = nb::cast<float>(shape["head_scale"]);
    require(s.groups > 0 && s.heads % s.groups == 0 && s.head_dim > 0 && s.width > 0 && s.intermediate > 0 &&
                s.vocabulary > 0 && (!s.rotary || s.head_dim % 2 == 0),
            "the shape does not divide");
    for (const std::size_t size : {s.vocabulary, s.width, s.heads, s.head_dim, s.intermediate})
      require(size <= std::size_t{1} << 24, "the shape is too large");
  }

  // "embedding", "head", "head_bias", "norm", "norm_bias" and "positions".
  void set_ends(const nb::dict& parts) {
    const Shape& s = model_.shape;
    model_.embedding = linear(parts, "embedding", s.vocabulary, s.width).matrix;
    model_.head = linear(parts, "head", s.vocabulary, s.width);
    model_.norm = norm(parts, "norm");
    require(model_.embedding.data && model_.head.matrix.data && model_.norm.weight, "an end is missing");
    if (parts.contains("positions")) {
      const auto table = nb::cast<Table>(parts["positions"]);
      require(table.shape(1) == s.width, "positions have another width");
      model_.positions = table.data();
      model_.position_count = table.shape(0);
      keep(parts["positions"]);
    }
  }

  void add_layer(const nb::dict& parts, std::size_t window, std::size_t rotation) {
    const Shape& s = model_.shape;
    const std::size_t queries = s.heads * s.head_dim, keys = s.groups * s.head_dim;
    Layer layer;
    layer.attention_norm = norm(parts, "attention_norm");
    layer.feedforward_norm = norm(parts, "feedforward_norm");
    layer.query = linear(parts, "query", queries, s.width);
    layer.key = linear(parts, "key", keys, s.width);
    layer.value = linear(parts, "value", keys, s.width);
    layer.output = linear(parts, "output", s.width, queries);
    layer.gate = linear(parts, "gate", s.intermediate, s.width);
    layer.up = linear(parts, "up", s.intermediate, s.width);
    layer.down = linear(parts, "down", s.width, s.intermediate);
    for (const Linear* one : {&layer.query, &layer.key, &layer.value, &layer.output, &layer.up, &layer.down})
      require(one->matrix.data, "a layer lacks a matrix");
    require(layer.attention_norm.weight && layer.feedforward_norm.weight, "a layer lacks a norm");
    // What goes into them is prepared once.
    for (const auto& [one, other] : {std::pair{&layer.query, &layer.key}, std::pair{&layer.query, &layer.value},
                                     std::pair{&layer.up, layer.gate.matrix.data ? &layer.gate : &layer.up}})
      require(one->matrix.format == other->matrix.format, "matrices of one input differ in format");
    layer.query_norm = vector(parts, "query_norm", s.head_dim);
    layer.key_norm = vector(parts, "key_norm", s.head_dim);
    layer.sinks = vector(parts, "sinks", s.heads);
    layer.window = window;
    layer.rotation = rotation;
    model_.layers.push_back(layer);
  }

  void set_rotations(const std::vector<std::pair<Table, Table>>& tables) {
    std::vector<Rotation> rotations;
    for (const auto& [cosines, sines] : tables) {
      require(cosines.shape(1) == model_.shape.head_dim && sines.shape(1) == model_.shape.head_dim &&
                  cosines.shape(0) == sines.shape(0),
              "a rotation has another shape");
      rotations.push_back({cosines.data(), sines.data(), cosines.shape(0)});
    }
    model_.rotations = std::move(rotations);
    tables_ = tables;
  }

  auto forward(const Integers& ids, const Integers& rows, const Integers& positions, const Integers& wanted,
               const std::vector<Block>& keys, const std::vector<Block>& values, std::size_t threads) {
    const Shape& s = model_.shape;
    const Tokens tokens = {{ids.data(), ids.size()}, {rows.data(), rows.size()}, {positions.data(), positions.size()}};
    const std::span<const std::int64_t> wanted_span(wanted.data(), wanted.size());
    const Cache cache = checked(keys, values);
    check(tokens, cache);
    for (const std::int64_t one : wanted_span)
      require(one >= 0 && static_cast<std::size_t>(one) < ids.size(), "a wanted token is not there");
    float* logits = new float[std::max<std::size_t>(1, wanted.size() * s.vocabulary)];
    const nb::capsule owner(logits, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    if (ids.size()) {
      const nb::gil_scoped_release release;
      forward_.run(model_, tokens, cache, wanted_span, logits, std::clamp<std::size_t>(threads, 1, 256));
    }
    return nb::ndarray<nb::numpy, float, nb::ndim<2>>(logits, {wanted.size(), s.vocabulary}, owner);
  }

 private:
  static std::size_t number(const nb::dict& from, const char* name) { return nb::cast<std::size_t>(from[name]); }
  void keep(nb::handle object) { kept_.push_back(nb::borrow(object)); }

  const float* vector(const nb::dict& parts, const char* name, std::size_t size) {
    if (!parts.contains(name)) return nullptr;
    const auto array = nb::cast<Vector>(parts[name]);
    require(array.size() == size, "a vector has another length");
    keep(parts[name]);
    return array.data();
  }
  Norm norm(const nb::dict& parts, const std::string& name) {
    return {vector(parts, name.c_str(), model_.shape.width),
            vector(parts, (name + "_bias").c_str(), model_.shape.width)};
  }
  Linear linear(const nb::dict& parts, const std::string& name, std::size_t outputs, std::size_t columns) {
    Linear found;
    if (!parts.contains(name.c_str())) return found;
    found.matrix = nb::cast<const Weights&>(parts[name.c_str()]).matrix();
    require(found.matrix.outputs == outputs && found.matrix.columns == columns, "a matrix has another shape");
    keep(parts[name.c_str()]);
    found.bias = vector(parts, (name + "_bias").c_str(), outputs);
    return found;
  }

  Cache checked(const std::vector<Block>& keys, const std::vector<Block>& values) const {
    const Shape& s = model_.shape;
    require(keys.size() == model_.layers.size() && values.size() == keys.size() && !keys.empty(),
            "the cache has another number of layers");
    const bool whole = keys[0].dtype() == nb::dtype<float>();
    require(whole || keys[0].dtype() == nb::dtype<std::int16_t>(), "a cache is float32, or bfloat16 as int16");
    Cache cache = {{}, {}, keys[0].shape(0), keys[0].shape(1), whole ? Precision::Float32 : Precision::BFloat16};
    for (std::size_t i = 0; i < keys.size(); ++i)
      for (const auto& [blocks, to] : {std::pair{&keys, &cache.keys}, std::pair{&values, &cache.values}}) {
        const Block& block = (*blocks)[i];
        require(block.shape(0) == cache.rows && block.shape(1) == cache.capacity && block.shape(2) == s.groups &&
                    block.shape(3) == s.head_dim && block.dtype() == keys[0].dtype(),
                "the cache's blocks have other shapes or precisions");
        to->push_back(static_cast<std::byte*>(block.data()));
      }
    return cache;
  }

  void check(const Tokens& tokens, const Cache& cache) const {
    require(tokens.rows.size() == tokens.ids.size() && tokens.positions.size() == tokens.ids.size(),
            "ids, rows and positions differ in length");
    std::size_t reach = cache.capacity;
    if (model_.positions) reach = std::min(reach, model_.position_count);
    if (model_.shape.rotary) {
      for (const Layer& layer : model_.layers) {
        require(layer.rotation < model_.rotations.size(), "a layer has no rotation");
        reach = std::min(reach, model_.rotations[layer.rotation].positions);
      }
    }
    const auto below = [](std::int64_t value, std::size_t limit) {
      return value >= 0 && static_cast<std::size_t>(value) < limit;
    };
    for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
      require(below(tokens.ids[i], model_.shape.vocabulary), "a token id lies outside the vocabulary");
      require(below(tokens.rows[i], cache.rows), "a row lies outside the cache");
      require(below(tokens.positions[i], reach), "a position lies beyond the cache or the model's context");
      require(i == 0 || tokens.rows[i] != tokens.rows[i - 1] || tokens.positions[i] == tokens.positions[i - 1] + 1,
              "a row's positions do not follow each other");
    }
  }

  Model model_;
  Forward forward_;
  std::vector<nb::object> kept_;
  std::vector<std::pair<Table, Table>> tables_;
};

}  // namespace

void bind_decoder(nb::module_& m) {
  nb::class_<Weights>(m, "DecoderWeights")
      .def(nb::init<Table>(), "weights"_a, "float32 weights (outputs, columns), read where they lie.")
      .def_static(
          "pack",
          [](const Table& weights, int format) {
            require(format >= 1 && format <= 3, "formats are 1 (bfloat16), 2 (int8) and 3 (int4)");
            require(weights.shape(1) <= std::size_t{1} << 24, "the matrix is too wide");
            const nb::gil_scoped_release release;
            return new Weights(
                Packed(static_cast<Format>(format), weights.data(), weights.shape(0), weights.shape(1)));
          },
          "weights"_a, "format"_a, nb::rv_policy::take_ownership, "A packed copy.")
      .def("unpack",
           [](const Weights& self) {
             const Matrix& matrix = self.matrix();
             float* data = new float[std::max<std::size_t>(1, matrix.outputs * matrix.columns)];
             const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
             for (std::size_t n = 0; n < matrix.outputs; ++n) matrix.unpack(n, data + n * matrix.columns);
             return nb::ndarray<nb::numpy, float, nb::ndim<2>>(data, {matrix.outputs, matrix.columns}, owner);
           },
           "The weights that a step multiplies with, float32.")
      .def("multiply", &multiply, "rows"_a, "The products (rows, outputs) of rows (rows, columns), as a step computes them.")
      .def_prop_ro("nbytes", &Weights::bytes);
  nb::class_<Step>(m, "DecoderStep")
      .def(nb::init<const nb::dict&>(), "shape"_a)
      .def("set_ends", &Step::set_ends, "parts"_a)
      .def("add_layer", &Step::add_layer, "parts"_a, "window"_a, "rotation"_a)
      .def("set_rotations", &Step::set_rotations, "tables"_a)
      .def("forward", &Step::forward, "ids"_a, "rows"_a, "positions"_a, "wanted"_a, "keys"_a, "values"_a, "threads"_a,
           "Logits (wanted, vocabulary) of new tokens, whose keys and values go to their rows of the cache.");
}

}  // namespace seedbed::decoder

// What Python sees of training word vectors.
#include "embedding/bind.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "embedding/int8_linear.hpp"
#include "embedding/word_vectors.hpp"

namespace seedbed::embedding {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class T>
std::span<const T> span(const In<T>& array) {
  return {array.data(), array.size()};
}

void check_words(std::span<const std::uint32_t> words, std::size_t count) {
  if (!words.empty() && *std::max_element(words.begin(), words.end()) >= count)
    throw std::invalid_argument("a word lies outside the vocabulary");
}

void check_matrix(const Matrix& matrix, std::size_t rows, std::size_t columns) {
  if (matrix.shape(0) != rows || matrix.shape(1) != padded(columns))
    throw std::invalid_argument("a matrix of vectors has not the right shape");
}

void predictions(const In<std::uint32_t>& words, const In<std::int64_t>& offsets, const Matrix& inputs,
                 const Matrix& outputs, std::size_t dim, const In<float>& keep, const In<std::uint32_t>& noise, bool cbow,
                 std::size_t window, std::size_t negatives, double rate, double last_rate, std::uint64_t seed,
                 std::size_t threads) {
  const std::size_t count = keep.size();
  if (dim == 0 || window == 0 || negatives == 0 || negatives > 31 || noise.size() == 0 || offsets.size() == 0)
    throw std::invalid_argument("dim, window and noise must be positive, negatives from 1 to 31");
  check_matrix(inputs, count, dim);
  check_matrix(outputs, count, dim);
  check_words(span(words), count);
  check_words(span(noise), count);
  const std::span<const std::int64_t> bounds = span(offsets);
  if (!std::is_sorted(bounds.begin(), bounds.end()) || bounds.front() < 0 ||
      bounds.back() > static_cast<std::int64_t>(words.size()))
    throw std::invalid_argument("offsets do not rise within the words");
  nb::gil_scoped_release release;
  train_predictions({span(words), bounds}, {cbow, window, negatives, span(keep), span(noise), rate, last_rate, seed},
                    inputs.data(), outputs.data(), dim, std::max<std::size_t>(1, threads));
}

double counted(const In<std::uint32_t>& words, const In<std::uint32_t>& contexts, const In<float>& counts,
               const Matrix& word_rows, const Matrix& context_rows, const Matrix& word_squares,
               const Matrix& context_squares, std::size_t dim, double most, double power, double rate,
               std::uint64_t seed, std::size_t threads) {
  const std::size_t count = word_rows.shape(0);
  if (dim == 0 || words.size() != counts.size() || contexts.size() != counts.size() || !(most > 0) ||
      counts.size() > UINT32_MAX)
    throw std::invalid_argument("words, contexts and counts must be as many, dim and most positive");
  for (const Matrix* matrix : {&word_rows, &context_rows, &word_squares, &context_squares})
    check_matrix(*matrix, count, dim + 1);
  check_words(span(words), count);
  check_words(span(contexts), count);
  nb::gil_scoped_release release;
  return train_counts({span(words), span(contexts), span(counts)}, most, power, rate, seed, word_rows.data(),
                      context_rows.data(), word_squares.data(), context_squares.data(), dim,
                      std::max<std::size_t>(1, threads));
}

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

nb::ndarray<nb::numpy, float, nb::ndim<2>> forward(const Int8Linear& self, const Rows& x, std::size_t threads) {
  if (x.shape(1) != self.columns()) throw std::invalid_argument("rows have another width than the weights");
  const std::size_t rows = x.shape(0);
  float* out = new float[std::max<std::size_t>(1, rows * self.outputs())];
  const nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    nb::gil_scoped_release release;
    self.forward(x.data(), rows, out, std::max<std::size_t>(1, threads));
  }
  return nb::ndarray<nb::numpy, float, nb::ndim<2>>(out, {rows, self.outputs()}, owner);
}

}  // namespace

void bind_embedding(nb::module_& m) {
  nb::class_<Int8Linear>(m, "Int8Linear", "A linear layer in 8-bit integers with a scale for every 32 columns.")
      .def("__init__",
           [](Int8Linear* self, const Rows& weights, const std::optional<In<float>>& bias) {
             if (bias && bias->size() != weights.shape(0)) throw std::invalid_argument("a bias of another length");
             new (self) Int8Linear(weights.data(), bias ? bias->data() : nullptr, weights.shape(0), weights.shape(1));
           },
           "weights"_a, "bias"_a.none())
      .def_prop_ro("nbytes", &Int8Linear::bytes)
      .def("forward", &forward, "rows"_a, "threads"_a = 1);
  m.def("train_word_predictions", &predictions, "words"_a, "offsets"_a, "inputs"_a, "outputs"_a, "dim"_a, "keep"_a,
        "noise"_a, "cbow"_a, "window"_a, "negatives"_a, "rate"_a, "last_rate"_a, "seed"_a, "threads"_a,
        "One pass of skip-gram or CBOW with negative sampling, in place.");
  m.def("train_word_counts", &counted, "words"_a, "contexts"_a, "counts"_a, "word_rows"_a, "context_rows"_a,
        "word_squares"_a, "context_squares"_a, "dim"_a, "most"_a, "power"_a, "rate"_a, "seed"_a, "threads"_a,
        "One pass of GloVe, in place; the mean weighted squared error.");
}

}  // namespace seedbed::embedding

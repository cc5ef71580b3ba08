// What Python sees of measuring and cleaning texts.
#include "text/bind.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string_view.h>

#include <stdexcept>
#include <string>

#include "text/lines.hpp"
#include "text/scores.hpp"
#include "tokenizer/bindings.hpp"
#include "tokenizer/parallel.hpp"

namespace seedbed::text {

namespace nb = nanobind;
using namespace nb::literals;
using tokenizer::TextViews;

namespace {

using Matrix = nb::ndarray<nb::numpy, double, nb::ndim<2>>;

Matrix new_matrix(std::size_t rows, std::size_t columns, double** data) {
  auto owned = std::make_unique_for_overwrite<double[]>(rows * columns + 1);
  *data = owned.get();
  nb::capsule owner(owned.get(), [](void* p) noexcept { delete[] static_cast<double*>(p); });
  owned.release();
  return Matrix(*data, {rows, columns}, owner);
}

Matrix text_scores(const nb::list& list, unsigned families, unsigned threads) {
  TextViews texts;
  view_all(list, texts);
  double* scores;
  Matrix matrix = new_matrix(texts.views.size(), kScores, &scores);
  nb::gil_scoped_release release;
  const std::size_t blocks = tokenizer::blocks_of(texts.views).size();
  std::vector<Scorer> scorers(tokenizer::threads_for(blocks, threads));
  tokenizer::parallel_blocks(texts.views, threads, [&](unsigned thread, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) scorers[thread].measure(texts.views[i], families, scores + i * kScores);
  });
  return matrix;
}

LineStyle style_named(std::string_view name) {
  if (name == "c4") return LineStyle::C4;
  if (name == "fineweb") return LineStyle::Fineweb;
  if (name == "dclm") return LineStyle::Dclm;
  throw std::invalid_argument("unknown way of cleaning lines '" + std::string(name) + "'");
}

nb::tuple clean_lines(const nb::list& list, std::string_view style_name, unsigned threads) {
  constexpr std::size_t kNumbers = 5;
  TextViews texts;
  view_all(list, texts);
  const LineStyle style = style_named(style_name);
  std::vector<std::string> cleaned(texts.views.size());
  double* numbers;
  Matrix matrix = new_matrix(texts.views.size(), kNumbers, &numbers);
  {
    nb::gil_scoped_release release;
    tokenizer::parallel_blocks(texts.views, threads, [&](unsigned, std::size_t from, std::size_t to) {
      LineCleaner cleaner;
      for (std::size_t i = from; i < to; ++i) {
        Cleaned one = cleaner.clean(texts.views[i], style);
        const double found[kNumbers] = {one.sentences, one.lorem_ipsum, one.curly_brackets, one.removed_word_share,
                                        one.dropped_lines};
        std::copy_n(found, kNumbers, numbers + i * kNumbers);
        cleaned[i] = std::move(one.text);
      }
    });
  }
  nb::list out;
  for (const std::string& text : cleaned)
    out.append(nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace")));
  return nb::make_tuple(out, matrix);
}

}  // namespace

void bind_text(nb::module_& m) {
  nb::list names;
  for (const std::string_view name : kScoreNames) names.append(nb::str(name.data(), name.size()));
  m.attr("TEXT_SCORES") = nb::tuple(names);
  m.def("text_scores", &text_scores, "texts"_a, "families"_a, "threads"_a = 1);
  m.def("clean_lines", &clean_lines, "texts"_a, "style"_a, "threads"_a = 1);
  bind_near(m);
}

}  // namespace seedbed::text

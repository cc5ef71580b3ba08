// What Python sees of normalisers.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "tokenizer/bindings.hpp"
#include "tokenizer/normalizers.hpp"
#include "tokenizer/unicode_forms.hpp"

namespace seedbed::tokenizer {
namespace {

using Made = std::shared_ptr<Normalizer>;

nb::bytes normalized(const Normalizer& normalizer, nb::handle text) {
  TextViews texts;
  texts.add(text);
  std::string out;
  {
    nb::gil_scoped_release release;
    normalizer.normalize(texts.views[0], out, nullptr);
  }
  return nb::bytes(out.data(), out.size());
}

// The normalised bytes, and of each the bytes of the text (from, to) that it came from: int64 (2 n,).
nb::tuple normalized_with_origins(const Normalizer& normalizer, nb::handle text) {
  TextViews texts;
  texts.add(text);
  std::string out;
  std::vector<Span> origins;
  {
    nb::gil_scoped_release release;
    normalizer.normalize(texts.views[0], out, &origins);
  }
  std::int64_t* place;
  auto places = new_array(2 * origins.size(), &place);
  for (const Span& origin : origins) {
    *place++ = static_cast<std::int64_t>(origin.from);
    *place++ = static_cast<std::int64_t>(origin.to);
  }
  return nb::make_tuple(nb::bytes(out.data(), out.size()), places);
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_normalizers(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  nb::class_<Normalizer>(m, "Normalizer", "What changes a text before it is cut.")
      .def("normalize", &normalized, "text"_a)
      .def("normalize_with_origins", &normalized_with_origins, "text"_a);
  m.def("unicode_form",
        [](bool compatible, bool composed) -> Made { return std::make_shared<UnicodeForm>(compatible, composed); },
        "compatible"_a, "composed"_a);
  m.def("lowercase_normalizer", []() -> Made { return std::make_shared<Lowercase>(); });
  m.def("strip_accents_normalizer", []() -> Made { return std::make_shared<Drop>(kAnyMark); });
  m.def("replace_normalizer",
        [](std::string pattern, std::string content) -> Made {
          return std::make_shared<Replace>(std::move(pattern), std::move(content));
        },
        "pattern"_a, "content"_a);
  m.def("prepend_normalizer", [](std::string content) -> Made { return std::make_shared<Prepend>(std::move(content)); },
        "content"_a);
  m.def("strip_normalizer", [](bool left, bool right) -> Made { return std::make_shared<Strip>(left, right); }, "left"_a,
        "right"_a);
  m.def("bert_normalizer",
        [](bool clean_text, bool handle_chinese_chars, bool strip_accents, bool lowercase) -> Made {
          return std::make_shared<BertNormalizer>(
              BertNormalizer::Options{clean_text, handle_chinese_chars, strip_accents, lowercase});
        },
        "clean_text"_a, "handle_chinese_chars"_a, "strip_accents"_a, "lowercase"_a);
  m.def("normalizer_sequence",
        [](const nb::list& steps) -> Made {
          std::vector<std::shared_ptr<const Normalizer>> listed;
          for (nb::handle step : steps) listed.push_back(nb::cast<Made>(step));
          return std::make_shared<NormalizerSequence>(std::move(listed));
        },
        "steps"_a);
}

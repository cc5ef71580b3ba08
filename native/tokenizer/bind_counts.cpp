// What Python sees of counting words.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "tokenizer/bindings.hpp"
#include "tokenizer/word_counter.hpp"

namespace seedbed::tokenizer {
namespace {

void add(WordCounter& counter, const nb::list& list) {
  TextViews texts;
  view_all(list, texts);
  nb::gil_scoped_release release;
  counter.add(texts.views);
}

nb::bytes packed(const WordCounts& counts, std::uint64_t offset, std::size_t size) {
  size = std::min<std::uint64_t>(size, counts.packed_bytes() - std::min(offset, counts.packed_bytes()));
  nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
  if (!bytes.is_valid()) throw nb::python_error();
  if (counts.read_packed(offset, PyBytes_AS_STRING(bytes.ptr()), size) != size)
    throw std::runtime_error("the file of the counts was cut off while it was in use");
  return nb::borrow<nb::bytes>(bytes);
}

nb::list items(const WordCounts& counts) {
  nb::list list;
  counts.for_each([&](std::string_view word, std::uint64_t count) {
    list.append(nb::make_tuple(nb::bytes(word.data(), word.size()), count));
  });
  return list;
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_counts(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  nb::class_<WordSource>(m, "WordSource", "How a text falls into the words that training counts.");
  m.def("pattern_words",
        [](std::string_view pattern) -> std::shared_ptr<WordSource> {
          return std::make_shared<PatternWords>(pattern_or_throw(pattern));
        },
        "pattern"_a);
  nb::class_<WordCounts>(m, "WordCounts", "How often each word occurs; sorted by bytes.")
      .def("__len__", &WordCounts::size)
      .def_prop_ro("total", &WordCounts::total, "Occurrences of all words.")
      .def_prop_ro("packed_bytes", &WordCounts::packed_bytes)
      .def("packed", &packed, "offset"_a, "size"_a, "Bytes of the packed words.")
      .def("items", &items, "All words and counts.")
      .def_static("in_file", &WordCounts::in_file, "path"_a, "offset"_a, "size"_a, "words"_a,
                  nb::call_guard<nb::gil_scoped_release>());
  m.def("merge_counts", &merge_counts, "parts"_a, "min_count"_a, "memory_bytes"_a, "directory"_a,
        nb::call_guard<nb::gil_scoped_release>());
  nb::class_<WordCounter>(m, "WordCounter", "Counts words over several calls.")
      .def("__init__",
           [](WordCounter* self, std::shared_ptr<WordSource> source, unsigned threads, std::uint64_t memory_bytes,
              std::string directory) {
             new (self) WordCounter(std::move(source), threads, memory_bytes, std::move(directory));
           },
           "source"_a, "threads"_a, "memory_bytes"_a, "directory"_a)
      .def("add", &add, "texts"_a)
      .def("take", &WordCounter::take, nb::call_guard<nb::gil_scoped_release>(),
           "The counts so far; the counter starts anew.")
      .def_prop_ro("skipped", &WordCounter::skipped)
      .def_prop_ro("spilled", &WordCounter::spilled);
}

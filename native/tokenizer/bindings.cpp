// What Python sees of the tokenizer kernels. Arguments are checked here; files are read and judged in Python.
#include "tokenizer/bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "tokenizer/byte_level_bpe.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/word_counts.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace seedbed::tokenizer {
namespace {

template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;
using Ids = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Triples = nb::ndarray<const std::uint32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

template <class T>
Array<T> new_array(std::size_t size, T** data) {
  auto owned = std::make_unique_for_overwrite<T[]>(size ? size : 1);
  *data = owned.get();
  nb::capsule owner(owned.get(), [](void* p) noexcept { delete[] static_cast<T*>(p); });
  owned.release();
  return Array<T>(*data, {size}, owner);
}

Pattern pattern_or_throw(std::string_view name) {
  if (const auto pattern = pattern_named(name)) return *pattern;
  throw std::invalid_argument("unknown pattern '" + std::string(name) + "'");
}

std::string_view bytes_view(nb::handle object) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(object.ptr(), &data, &size) != 0) throw nb::python_error();
  return {data, static_cast<std::size_t>(size)};
}

// UTF-8 of a str (or the bytes of a bytes object) for as long as this lives. ASCII strings are read in place; others are
// encoded for the while, as Python's own cache of the UTF-8 form would stay with the string.
class TextViews {
 public:
  void add(nb::handle object) {
    if (PyBytes_Check(object.ptr())) {
      views.push_back(bytes_view(object));
    } else if (!PyUnicode_Check(object.ptr())) {
      throw nb::type_error("texts must be str or bytes");
    } else if (PyUnicode_IS_COMPACT_ASCII(object.ptr())) {
      views.emplace_back(static_cast<const char*>(PyUnicode_DATA(object.ptr())),
                         static_cast<std::size_t>(PyUnicode_GET_LENGTH(object.ptr())));
    } else {
      nb::object encoded = nb::steal(PyUnicode_AsUTF8String(object.ptr()));
      if (!encoded.is_valid()) throw nb::python_error();  // lone surrogates
      views.push_back(bytes_view(encoded));
      owners_.push_back(std::move(encoded));
    }
  }
  std::vector<std::string_view> views;

 private:
  std::vector<nb::object> owners_;
};

void view_all(const nb::list& texts, TextViews& views) {
  views.views.reserve(nb::len(texts));
  for (nb::handle text : texts) views.add(text);
}

std::vector<std::string> copies_of(const nb::list& listed) {
  std::vector<std::string> copies;
  copies.reserve(nb::len(listed));
  for (nb::handle bytes : listed) copies.emplace_back(bytes_view(bytes));
  return copies;
}

std::shared_ptr<Algorithm> new_byte_level_bpe(const nb::list& tokens, const Triples& merges, const Ids& byte_ids,
                                              std::string_view pattern, const Ids& whole_words) {
  std::vector<Merge> rules(merges.shape(0));
  for (std::size_t i = 0; i < rules.size(); ++i) rules[i] = {merges(i, 0), merges(i, 1), merges(i, 2)};
  if (byte_ids.shape(0) != 256) throw std::invalid_argument("byte_ids must have 256 entries");
  std::array<std::uint32_t, 256> ids;
  for (std::size_t i = 0; i < 256; ++i) ids[i] = byte_ids(i);
  BpeModel model(copies_of(tokens), rules, ids, {whole_words.data(), whole_words.data() + whole_words.shape(0)});
  return std::make_shared<ByteLevelBpe>(std::move(model), pattern_or_throw(pattern));
}

Encoder* new_encoder(std::shared_ptr<Algorithm> algorithm, const nb::list& pieces, const nb::list& added) {
  std::vector<std::string> bytes = copies_of(pieces);
  std::vector<AddedToken> list;
  for (nb::handle item : added) {
    const auto [content, id, special, normalized] = nb::cast<std::tuple<nb::bytes, std::uint32_t, bool, bool>>(item);
    if (id >= bytes.size()) throw std::invalid_argument("the id of an added token is out of range");
    list.push_back({std::string(bytes_view(content)), id, special, normalized});
  }
  return new Encoder(std::move(algorithm), std::move(bytes), AddedTokens(list));
}

Array<std::uint32_t> joined(const Encoder::Batch& batch) {
  std::size_t size = 0;
  for (const IdBuffer& part : batch.parts) size += part.size();
  std::uint32_t* ids;
  auto array = new_array(size, &ids);
  for (const IdBuffer& part : batch.parts) ids = std::copy_n(part.data(), part.size(), ids);
  return array;
}

nb::object encode(const Encoder& encoder, nb::handle text, bool parse_special) {
  TextViews texts;
  texts.add(text);
  Encoder::Batch batch;
  {
    nb::gil_scoped_release release;
    batch = encoder.encode(texts.views, 1, parse_special);
  }
  return nb::cast(joined(batch));
}

nb::tuple encode_batch(const Encoder& encoder, const nb::list& list, unsigned threads, bool parse_special) {
  TextViews texts;
  view_all(list, texts);
  Encoder::Batch batch;
  {
    nb::gil_scoped_release release;
    batch = encoder.encode(texts.views, threads, parse_special);
  }
  std::int64_t* offsets;
  auto rows = new_array(batch.lengths.size() + 1, &offsets);
  offsets[0] = 0;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i)
    offsets[i + 1] = offsets[i] + static_cast<std::int64_t>(batch.lengths[i]);
  return nb::make_tuple(joined(batch), rows);
}

// ids, and the bytes of the text (from, to) that each stands for: int64 (n, 2).
nb::tuple encode_with_offsets(const Encoder& encoder, nb::handle text, bool parse_special) {
  TextViews texts;
  texts.add(text);
  IdBuffer ids;
  std::vector<Span> spans;
  {
    nb::gil_scoped_release release;
    encoder.encode(texts.views[0], parse_special, ids, spans);
  }
  std::uint32_t* id;
  auto row = new_array(ids.size(), &id);
  std::copy_n(ids.data(), ids.size(), id);
  std::int64_t* offset;
  auto offsets = new_array(2 * spans.size(), &offset);
  for (const Span& span : spans) {
    *offset++ = static_cast<std::int64_t>(span.from);
    *offset++ = static_cast<std::int64_t>(span.to);
  }
  return nb::make_tuple(row, offsets);
}

nb::bytes decode_bytes(const Encoder& encoder, const Ids& ids) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < ids.shape(0); ++i) {
    if (ids(i) >= encoder.pieces().size())
      throw nb::index_error(("id " + std::to_string(ids(i)) + " at position " + std::to_string(i)).c_str());
    size += encoder.pieces()[ids(i)].size();
  }
  nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
  if (!bytes.is_valid()) throw nb::python_error();
  char* p = PyBytes_AS_STRING(bytes.ptr());
  for (std::size_t i = 0; i < ids.shape(0); ++i) {
    const std::string& token = encoder.pieces()[ids(i)];
    p = std::copy(token.begin(), token.end(), p);
  }
  return nb::borrow<nb::bytes>(bytes);
}

// Byte offsets of the cuts of one text, the first 0 and the last its length.
Array<std::int64_t> cut(std::string_view pattern, nb::handle text) {
  TextViews texts;
  texts.add(text);
  const auto* start = reinterpret_cast<const std::uint8_t*>(texts.views[0].data());
  const auto* end = start + texts.views[0].size();
  const Cut cut = cut_of(pattern_or_throw(pattern));
  std::vector<std::int64_t> ends{0};
  for (const auto* p = start; p < end;) ends.push_back((p = cut(p, end)) - start);
  std::int64_t* data;
  auto array = new_array(ends.size(), &data);
  std::copy(ends.begin(), ends.end(), data);
  return array;
}

void count_words(WordCounter& counter, const nb::list& list) {
  TextViews texts;
  view_all(list, texts);
  nb::gil_scoped_release release;
  counter.add(texts.views);
}

nb::tuple train(WordCounter& counter, std::size_t vocab_size, const nb::list& specials, const nb::bytes& byte_order,
                std::uint64_t min_frequency) {
  std::vector<std::string> first;
  for (nb::handle special : specials) first.emplace_back(bytes_view(special));
  const std::string_view order = bytes_view(byte_order);
  std::array<bool, 256> seen{};
  for (const char byte : order) seen[static_cast<std::uint8_t>(byte)] = true;
  if (order.size() != 256 || std::find(seen.begin(), seen.end(), false) != seen.end())
    throw std::invalid_argument("byte_order must hold each byte once");
  Vocabulary vocabulary;
  std::size_t words;
  {
    nb::gil_scoped_release release;
    const WordCounts counts = counter.take();
    words = counts.size();
    if (words) vocabulary = train_bpe(counts, vocab_size, first, {order.begin(), order.end()}, min_frequency);
  }
  nb::list tokens;
  for (const std::string& token : vocabulary.tokens) tokens.append(nb::bytes(token.data(), token.size()));
  std::uint32_t* data;
  auto merges = new_array(vocabulary.merges.size() * 3, &data);
  for (const Merge& merge : vocabulary.merges) {
    *data++ = merge.left;
    *data++ = merge.right;
    *data++ = merge.result;
  }
  return nb::make_tuple(tokens, merges, words);
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_tokenizer(nb::module_& m) {
  using namespace seedbed::tokenizer;
  nb::class_<Algorithm>(m, "Algorithm", "What encodes text without added tokens.");
  m.def("byte_level_bpe", &new_byte_level_bpe, "tokens"_a, "merges"_a, "byte_ids"_a, "pattern"_a, "whole_words"_a);
  nb::class_<Encoder>(m, "Encoder", "Texts to ids and back; safe to use from several threads at once.")
      .def(nb::new_(&new_encoder), "algorithm"_a, "pieces"_a, "added"_a)
      .def("encode", &encode, "text"_a, "parse_special"_a)
      .def("encode_batch", &encode_batch, "texts"_a, "threads"_a, "parse_special"_a)
      .def("encode_with_offsets", &encode_with_offsets, "text"_a, "parse_special"_a)
      .def("decode_bytes", &decode_bytes, "ids"_a);
  nb::class_<WordCounter>(m, "WordCounter", "Counts pre-tokens over several calls, then trains on them.")
      .def("__init__",
           [](WordCounter* self, std::string_view pattern, unsigned threads) {
             new (self) WordCounter(pattern_or_throw(pattern), threads);
           },
           "pattern"_a, "threads"_a)
      .def("add", &count_words, "texts"_a)
      .def("train", &train, "vocab_size"_a, "specials"_a, "byte_order"_a, "min_frequency"_a)
      .def_prop_ro("skipped", &WordCounter::skipped);
  m.def("cut", &cut, "pattern"_a, "text"_a, "Byte offsets between the pre-tokens of a text, from 0 to its length.");
}

// What the bindings of the tokenizer kernels share. Arguments are checked there; files are read and judged in Python.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pretokenizer.hpp"
#include "tokenizer/text.hpp"
#include "tokenizer/bpe_model.hpp"

namespace seedbed::tokenizer {

namespace nb = nanobind;
using namespace nb::literals;

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

inline std::string_view bytes_view(nb::handle object) {
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

// The texts of Python objects where they lie, for as long as this lives.
class PythonTexts {
 public:
  void add(nb::handle object) {
    PyObject* text = object.ptr();
    if (PyBytes_Check(text)) {
      const std::string_view bytes = bytes_view(object);
      texts.push_back({bytes.data(), bytes.size(), Text::Units::Utf8});
    } else if (PyUnicode_Check(text)) {
      const auto kind = PyUnicode_KIND(text);
      texts.push_back({PyUnicode_DATA(text), static_cast<std::size_t>(PyUnicode_GET_LENGTH(text)),
                       PyUnicode_IS_ASCII(text)          ? Text::Units::Utf8
                       : kind == PyUnicode_1BYTE_KIND    ? Text::Units::Latin1
                       : kind == PyUnicode_2BYTE_KIND    ? Text::Units::Ucs2
                                                         : Text::Units::Ucs4});
    } else {
      throw nb::type_error("texts must be str or bytes");
    }
    owners_.push_back(nb::borrow(object));
  }
  // Raises Python's own error for the first text with a lone surrogate.
  [[noreturn]] void raise_lone_surrogate() const {
    for (const nb::object& owner : owners_)
      if (PyUnicode_Check(owner.ptr()) && !nb::steal(PyUnicode_AsUTF8String(owner.ptr())).is_valid())
        throw nb::python_error();
    throw std::logic_error("no text has a lone surrogate");
  }
  std::vector<Text> texts;

 private:
  std::vector<nb::object> owners_;  // the list they came in may change meanwhile
};

inline void view_all(const nb::list& texts, TextViews& views) {
  views.views.reserve(nb::len(texts));
  for (nb::handle text : texts) views.add(text);
}

inline std::vector<std::string> copies_of(const nb::list& listed) {
  std::vector<std::string> copies;
  copies.reserve(nb::len(listed));
  for (nb::handle bytes : listed) copies.emplace_back(bytes_view(bytes));
  return copies;
}

inline Pattern pattern_or_throw(std::string_view name) {
  if (const auto pattern = pattern_named(name)) return *pattern;
  throw std::invalid_argument("unknown pattern '" + std::string(name) + "'");
}
// The arguments of all that applies merges.
BpeModel bpe_model(const nb::list& tokens, const Triples& merges, const Ids& byte_ids, const Ids& whole_words);

}  // namespace seedbed::tokenizer

void bind_tokenizer(nanobind::module_& m);
void bind_normalizers(nanobind::module_& m);
void bind_wordpiece(nanobind::module_& m);
void bind_counts(nanobind::module_& m);
void bind_pieces(nanobind::module_& m);
void bind_ranks(nanobind::module_& m);
void bind_cutting(nanobind::module_& m);

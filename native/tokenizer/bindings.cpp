// What Python sees of encoding and byte-level BPE.
#include "tokenizer/bindings.hpp"

#include <algorithm>
#include <stdexcept>

#include "tokenizer/bpe_train.hpp"
#include "tokenizer/byte_level_bpe.hpp"
#include "tokenizer/cutter.hpp"
#include "tokenizer/encoder.hpp"
#include "tokenizer/word_counts.hpp"

namespace seedbed::tokenizer {
namespace {

std::shared_ptr<Algorithm> new_byte_level_bpe(const nb::list& tokens, const Triples& merges, const Ids& byte_ids,
                                              std::string_view pattern, const Ids& whole_words) {
  return std::make_shared<ByteLevelBpe>(bpe_model(tokens, merges, byte_ids, whole_words), pattern_or_throw(pattern));
}

Encoder* new_encoder(std::shared_ptr<Algorithm> algorithm, const nb::list& pieces, const nb::list& added) {
  std::vector<std::string> bytes = copies_of(pieces);
  std::vector<AddedToken> list;
  for (nb::handle item : added) {
    const auto [content, id, special, normalized, single_word, lstrip, rstrip] =
        nb::cast<std::tuple<nb::bytes, std::uint32_t, bool, bool, bool, bool, bool>>(item);
    if (id >= bytes.size()) throw std::invalid_argument("the id of an added token is out of range");
    list.push_back({std::string(bytes_view(content)), id, special, normalized, single_word, lstrip, rstrip});
  }
  AddedTokens tokens(std::move(list), algorithm->normalizer());
  return new Encoder(std::move(algorithm), std::move(bytes), std::move(tokens));
}

Array<std::uint32_t> as_array(IdBuffer ids) {
  auto* owned = new IdBuffer(std::move(ids));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<IdBuffer*>(p); });
  return Array<std::uint32_t>(owned->data(), {owned->size()}, owner);
}

nb::object encode(const Encoder& encoder, nb::handle object, bool parse_special) {
  constexpr std::size_t kShort = 4096;  // encoded in less time than it may take to get the lock of the interpreter back
  PythonTexts texts;
  texts.add(object);
  const Text& text = texts.texts[0];
  IdBuffer ids;
  try {
    if (text.most_bytes() <= kShort) {
      ids = encoder.encode(text, parse_special);
    } else {
      nb::gil_scoped_release release;
      ids = encoder.encode(text, parse_special);
    }
  } catch (const LoneSurrogate&) {
    texts.raise_lone_surrogate();
  }
  return nb::cast(as_array(std::move(ids)));
}

Encoder::Batch encoded(const Encoder& encoder, const PythonTexts& texts, unsigned threads, bool parse_special) {
  try {
    nb::gil_scoped_release release;
    return encoder.encode(texts.texts, threads, parse_special);
  } catch (const LoneSurrogate&) {
    texts.raise_lone_surrogate();
  }
}

nb::tuple encode_batch(const Encoder& encoder, const nb::list& list, unsigned threads, bool parse_special) {
  PythonTexts texts;
  for (nb::handle text : list) texts.add(text);
  Encoder::Batch batch = encoded(encoder, texts, threads, parse_special);
  std::int64_t* offsets;
  auto rows = new_array(batch.offsets.size(), &offsets);
  std::copy(batch.offsets.begin(), batch.offsets.end(), offsets);
  return nb::make_tuple(as_array(std::move(batch.ids)), rows);
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
  std::vector<std::int64_t> ends{0};
  Pieces pieces;
  Cutter(pattern_or_throw(pattern)).each(texts.views[0], pieces, [&] {
    for (std::size_t i = 0; i < pieces.count; ++i) ends.push_back(pieces.base + pieces.ends[i] - texts.views[0].data());
  });
  std::int64_t* data;
  auto array = new_array(ends.size(), &data);
  std::copy(ends.begin(), ends.end(), data);
  return array;
}

nb::tuple train(const WordCounts& words, std::size_t vocab_size, const nb::list& specials, const nb::bytes& byte_order,
                std::uint64_t min_frequency) {
  const std::string_view order = bytes_view(byte_order);
  std::array<bool, 256> seen{};
  for (const char byte : order) seen[static_cast<std::uint8_t>(byte)] = true;
  if (order.size() != 256 || std::find(seen.begin(), seen.end(), false) != seen.end())
    throw std::invalid_argument("byte_order must hold each byte once");
  const std::vector<std::string> first = copies_of(specials);
  Vocabulary vocabulary;
  {
    nb::gil_scoped_release release;
    vocabulary = train_bpe(words, vocab_size, first, {order.begin(), order.end()}, min_frequency);
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
  return nb::make_tuple(tokens, merges);
}

}  // namespace

BpeModel bpe_model(const nb::list& tokens, const Triples& merges, const Ids& byte_ids, const Ids& whole_words) {
  std::vector<Merge> rules(merges.shape(0));
  for (std::size_t i = 0; i < rules.size(); ++i) rules[i] = {merges(i, 0), merges(i, 1), merges(i, 2)};
  if (byte_ids.shape(0) != 256) throw std::invalid_argument("byte_ids must have 256 entries");
  std::array<std::uint32_t, 256> ids;
  for (std::size_t i = 0; i < 256; ++i) ids[i] = byte_ids(i);
  return {copies_of(tokens), rules, ids, {whole_words.data(), whole_words.data() + whole_words.shape(0)}};
}

}  // namespace seedbed::tokenizer

void bind_tokenizer(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  nb::class_<Algorithm>(m, "Algorithm", "What encodes text without added tokens.");
  m.def("byte_level_bpe", &new_byte_level_bpe, "tokens"_a, "merges"_a, "byte_ids"_a, "pattern"_a, "whole_words"_a);
  nb::class_<Encoder>(m, "Encoder", "Texts to ids and back; safe to use from several threads at once.")
      .def(nb::new_(&new_encoder), "algorithm"_a, "pieces"_a, "added"_a)
      .def("encode", &encode, "text"_a, "parse_special"_a)
      .def("encode_batch", &encode_batch, "texts"_a, "threads"_a, "parse_special"_a)
      .def("encode_with_offsets", &encode_with_offsets, "text"_a, "parse_special"_a)
      .def("decode_bytes", &decode_bytes, "ids"_a);
  m.def("train_bpe", &train, "words"_a, "vocab_size"_a, "specials"_a, "byte_order"_a, "min_frequency"_a);
  m.def("cut", &cut, "pattern"_a, "text"_a, "Byte offsets between the pre-tokens of a text, from 0 to its length.");
  bind_normalizers(m);
  bind_wordpiece(m);
  bind_counts(m);
  bind_pieces(m);
  bind_ranks(m);
  bind_cutting(m);
}

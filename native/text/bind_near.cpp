// What Python sees of near-duplicates.
#include <nanobind/ndarray.h>

#include <limits>
#include <stdexcept>

#include "simd/minhash.hpp"
#include "text/bind.hpp"
#include "text/near.hpp"
#include "text/shingles.hpp"
#include "text/substrings.hpp"
#include "text/suffix_array.hpp"
#include "tokenizer/bindings.hpp"
#include "tokenizer/parallel.hpp"

namespace seedbed::text {

namespace nb = nanobind;
using namespace nb::literals;
using tokenizer::new_array;
using tokenizer::TextViews;

namespace {

template <class T>
using Rows = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Row = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t kMostWords = 1000, kMostHashes = 1 << 16;

nb::tuple minhash(const nb::list& list, std::size_t words, std::size_t hashes, std::uint64_t seed, unsigned threads) {
  if (words < 1 || words > kMostWords) throw std::invalid_argument("words of a shingle: 1 to 1000");
  if (hashes < 1 || hashes > kMostHashes) throw std::invalid_argument("permutations: 1 to 65536");
  TextViews texts;
  view_all(list, texts);
  const std::size_t count = texts.views.size();
  auto minima = std::make_unique_for_overwrite<std::uint32_t[]>(count * hashes + 1);
  std::vector<std::vector<std::uint32_t>> parts;
  std::vector<std::int64_t> sizes(count);
  {
    nb::gil_scoped_release release;
    const Permutations permutations(hashes, seed);
    const simd::MinimaKernel kernel = simd::minima_kernel(simd::level());
    const std::size_t padded = permutations.multipliers.size();
    const auto blocks = tokenizer::blocks_of(texts.views);
    parts.resize(blocks.size());
    tokenizer::parallel_for(blocks.size(), threads, [&](unsigned, std::size_t block) {
      Shingler shingler(words);
      std::vector<std::uint32_t> lowest(padded);
      for (std::size_t i = blocks[block].first; i < blocks[block].second; ++i) {
        const std::vector<std::uint32_t>& shingles = shingler.read(texts.views[i]);
        std::fill(lowest.begin(), lowest.end(), std::numeric_limits<std::uint32_t>::max());
        kernel(shingles.data(), shingles.size(), permutations.multipliers.data(), permutations.addends.data(), padded,
               lowest.data());
        std::copy_n(lowest.begin(), hashes, minima.get() + i * hashes);
        sizes[i] = static_cast<std::int64_t>(shingles.size());
        parts[block].insert(parts[block].end(), shingles.begin(), shingles.end());
      }
    });
  }
  std::int64_t* offsets;
  auto offset_array = new_array<std::int64_t>(count + 1, &offsets);
  offsets[0] = 0;
  for (std::size_t i = 0; i < count; ++i) offsets[i + 1] = offsets[i] + sizes[i];
  std::uint32_t* shingles;
  auto shingle_array = new_array<std::uint32_t>(static_cast<std::size_t>(offsets[count]), &shingles);
  for (const auto& part : parts) shingles = std::copy(part.begin(), part.end(), shingles);
  std::uint32_t* data = minima.get();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint32_t*>(p); });
  minima.release();
  return nb::make_tuple(nb::ndarray<nb::numpy, std::uint32_t, nb::ndim<2>>(data, {count, hashes}, owner), shingle_array,
                        offset_array);
}

void check_offsets(const Row<std::uint32_t>& shingles, const Row<std::int64_t>& offsets) {
  if (offsets.shape(0) < 1 || offsets(0) != 0 ||
      static_cast<std::size_t>(offsets(offsets.shape(0) - 1)) != shingles.shape(0))
    throw std::invalid_argument("offsets do not span the shingles");
  for (std::size_t i = 1; i < offsets.shape(0); ++i)
    if (offsets(i) < offsets(i - 1)) throw std::invalid_argument("offsets are out of order");
}

nb::tuple clusters(const Rows<std::uint32_t>& minima, const Row<std::uint32_t>& shingles,
                   const Row<std::int64_t>& offsets, std::size_t bands, std::size_t rows, double threshold,
                   unsigned threads) {
  check_offsets(shingles, offsets);
  const Signatures signatures{minima.data(), minima.shape(0), minima.shape(1), shingles.data(), offsets.data()};
  if (offsets.shape(0) != signatures.documents + 1) throw std::invalid_argument("one offset for each signature");
  if (signatures.documents >= std::numeric_limits<std::uint32_t>::max()) throw std::length_error("too many documents");
  if (bands < 1 || rows < 1 || bands > signatures.hashes / rows)
    throw std::invalid_argument("bands x rows is more than the signatures hold");
  Clusters found;
  {
    nb::gil_scoped_release release;
    found = near_duplicates(signatures, bands, rows, threshold, threads);
  }
  std::int64_t* first;
  auto array = new_array<std::int64_t>(found.first.size(), &first);
  std::copy(found.first.begin(), found.first.end(), first);
  return nb::make_tuple(array, found.candidates, found.verified, found.similar);
}

tokenizer::Array<double> similarities(const Row<std::uint32_t>& shingles, const Row<std::int64_t>& offsets,
                                      const Rows<std::int64_t>& pairs) {
  check_offsets(shingles, offsets);
  if (pairs.shape(1) != 2) throw std::invalid_argument("pairs have two members");
  const auto documents = static_cast<std::int64_t>(offsets.shape(0)) - 1;
  double* values;
  auto array = new_array<double>(pairs.shape(0), &values);
  SetSimilarity similarity;
  for (std::size_t i = 0; i < pairs.shape(0); ++i) {
    const std::int64_t a = pairs(i, 0), b = pairs(i, 1);
    if (a < 0 || b < 0 || a >= documents || b >= documents) throw std::out_of_range("no such document");
    const auto size = [&](std::int64_t one) {
      return static_cast<std::size_t>(offsets(static_cast<std::size_t>(one) + 1) - offsets(static_cast<std::size_t>(one)));
    };
    values[i] = similarity.jaccard(shingles.data() + offsets(static_cast<std::size_t>(a)), size(a),
                                   shingles.data() + offsets(static_cast<std::size_t>(b)), size(b));
  }
  return array;
}

nb::tuple word_hashes(const nb::list& list) {
  TextViews texts;
  view_all(list, texts);
  std::vector<std::uint64_t> all;
  std::int64_t* offsets;
  auto offset_array = new_array<std::int64_t>(texts.views.size() + 1, &offsets);
  {
    nb::gil_scoped_release release;
    Shingler shingler(1);
    offsets[0] = 0;
    for (std::size_t i = 0; i < texts.views.size(); ++i) {
      shingler.read(texts.views[i]);
      all.insert(all.end(), shingler.words().begin(), shingler.words().end());
      offsets[i + 1] = static_cast<std::int64_t>(all.size());
    }
  }
  std::uint64_t* hashes;
  auto array = new_array<std::uint64_t>(all.size(), &hashes);
  std::copy(all.begin(), all.end(), hashes);
  return nb::make_tuple(array, offset_array);
}

tokenizer::Array<std::int32_t> sorted_suffixes(nb::handle text) {
  TextViews texts;
  texts.add(text);
  std::int32_t* data;
  std::vector<std::int32_t> order;
  {
    nb::gil_scoped_release release;
    order = suffix_array(texts.views[0]);
  }
  auto array = new_array<std::int32_t>(order.size(), &data);
  std::copy(order.begin(), order.end(), data);
  return array;
}

nb::list without_repeats(const nb::list& list, std::size_t length) {
  if (length < 1) throw std::invalid_argument("a substring has at least one byte");
  TextViews texts;
  view_all(list, texts);
  std::vector<Removal> removals;
  {
    nb::gil_scoped_release release;
    removals = repeated_substrings(texts.views, length);
  }
  nb::list out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < texts.views.size(); ++i) {
    std::string kept;
    std::size_t at = 0;
    for (; next < removals.size() && removals[next].text == i; ++next) {
      kept += texts.views[i].substr(at, removals[next].from - at);
      at = removals[next].to;
    }
    kept += texts.views[i].substr(at);
    out.append(nb::steal(PyUnicode_DecodeUTF8(kept.data(), static_cast<Py_ssize_t>(kept.size()), "replace")));
  }
  return out;
}

}  // namespace

void bind_near(nb::module_& m) {
  m.def("minhash", &minhash, "texts"_a, "words"_a, "permutations"_a, "seed"_a = 0, "threads"_a = 1);
  m.def("near_duplicates", &clusters, "minima"_a, "shingles"_a, "offsets"_a, "bands"_a, "rows"_a, "threshold"_a,
        "threads"_a = 1);
  m.def("shingle_similarities", &similarities, "shingles"_a, "offsets"_a, "pairs"_a);
  m.def("word_hashes", &word_hashes, "texts"_a);
  m.def("suffix_array", &sorted_suffixes, "text"_a);
  m.def("without_repeated_substrings", &without_repeats, "texts"_a, "length"_a);
}

}  // namespace seedbed::text

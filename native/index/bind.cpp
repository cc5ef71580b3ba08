// The indexes on NumPy arrays. Sizes are checked here; what the numbers mean is checked by seedbed.indexes.
#include "index/bind.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <string>

#include "index/bind_arrays.hpp"
#include "index/bm25.hpp"
#include "index/hnsw.hpp"

using namespace nanobind::literals;

namespace seedbed::index {
namespace {

void check_ragged(const In<std::uint32_t>& terms, const In<std::int64_t>& offsets) {
  require(offsets.size() > 0 && offsets.data()[0] == 0, "offsets do not begin at 0");
  for (std::size_t i = 1; i < offsets.size(); ++i)
    require(offsets.data()[i] >= offsets.data()[i - 1], "offsets do not rise");
  require(static_cast<std::size_t>(offsets.data()[offsets.size() - 1]) == terms.size(), "offsets do not end at the last term");
}

void bind_hnsw(nb::module_& m) {
  nb::class_<Hnsw> index(m, "Hnsw");
  bind_upkeep(index);
  bind_add(index);
  index
      .def(nb::init<std::size_t, bool, std::size_t, std::size_t, std::uint64_t>(), "dim"_a, "l2"_a, "m"_a,
           "ef_construction"_a, "seed"_a)
      .def("search",
           [](const Hnsw& self, const In2<float>& queries, std::size_t k, std::size_t ef,
              const Allowed& allowed, std::size_t threads) {
             require(queries.shape(1) == self.dim(), "queries have another dimension");
             const std::size_t rows = queries.shape(0);
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(queries.data(), rows, k, ef, only, threads_of(threads), scores, ids);
             });
           },
           "queries"_a, "k"_a, "ef"_a, "allowed"_a = nb::none(), "threads"_a = 1)
      .def("trace",
           [](const Hnsw& self, const In<float>& query, std::size_t ef) {
             require(query.size() == self.dim(), "the query has another dimension");
             std::vector<Step> steps;
             {
               const nb::gil_scoped_release release;
               steps = self.trace(query.data(), ef);
             }
             auto places = table<std::int64_t>(steps.size(), 3);
             auto distances = table<float>(1, steps.size());
             for (std::size_t i = 0; i < steps.size(); ++i) {
               const std::int64_t row[3] = {steps[i].id, steps[i].from, steps[i].level};
               std::copy_n(row, 3, places.data() + 3 * i);
               distances.data()[i] = steps[i].distance;
             }
             return nb::make_tuple(places, distances);
           },
           "query"_a, "ef"_a, "What a search looks at, in order: (n, 3) of id, id that led there or -1, level; distances.")
      .def("state",
           [](nb::handle_t<Hnsw> self) {
             const HnswState state = nb::cast<const Hnsw&>(self).state();
             nb::dict arrays;
             arrays["vectors"] = view(state.vectors, self);
             arrays["labels"] = view(state.labels, self);
             arrays["levels"] = view(state.levels, self);
             arrays["flags"] = view(state.flags, self);
             arrays["ring"] = view(state.ring, self);
             arrays["links"] = view(state.links, self);
             arrays["upper_start"] = view(state.upper_start, self);
             arrays["upper"] = view(state.upper, self);
             return nb::make_tuple(arrays, state.entry, state.drawn);
           },
           "Views into the index (no change may happen while they are read), the entry slot, the levels drawn so far.")
      .def("restore",
           [](Hnsw& self, const In<float>& vectors, const In<std::int64_t>& labels, const In<std::uint8_t>& levels,
              const In<std::uint8_t>& flags, const In<Slot>& ring, const In<Slot>& links,
              const In<Slot>& upper_start, const In<Slot>& upper, Slot entry, std::uint64_t drawn) {
             const nb::gil_scoped_release release;
             self.restore({span(vectors), span(labels), span(levels), span(flags), span(ring), span(links),
                           span(upper_start), span(upper), entry, drawn});
           },
           "vectors"_a, "labels"_a, "levels"_a, "flags"_a, "ring"_a, "links"_a, "upper_start"_a, "upper"_a, "entry"_a,
           "drawn"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>(),
           nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>(), nb::keep_alive<1, 8>(), nb::keep_alive<1, 9>(),
           "Takes the arrays without copying; the first change copies them.");
}

Bm25Variant bm25_variant(const std::string& name) {
  if (name == "lucene") return Bm25Variant::Lucene;
  if (name == "robertson") return Bm25Variant::Robertson;
  if (name == "atire") return Bm25Variant::Atire;
  if (name == "bm25+") return Bm25Variant::Plus;
  if (name == "bm25l") return Bm25Variant::L;
  if (name == "learned") return Bm25Variant::Learned;
  throw std::invalid_argument("unknown variant of BM25");
}

// Weights of terms: there for learned ones alone.
const float* checked_weights(const Bm25& index, const std::optional<In<float>>& weights, const In<std::uint32_t>& terms) {
  require(weights.has_value() == index.learned(), "weights belong to learned terms");
  if (!weights) return nullptr;
  require(weights->size() == terms.size(), "terms and weights do not fit");
  for (std::size_t i = 0; i < weights->size(); ++i)
    require(weights->data()[i] >= 0 && std::isfinite(weights->data()[i]), "a weight is negative or not finite");
  return weights->data();
}

void bind_bm25(nb::module_& m) {
  nb::class_<Bm25> index(m, "Bm25");
  bind_upkeep(index);
  index
      .def("__init__",
           [](Bm25* self, const std::string& variant, double k1, double b, double delta) {
             new (self) Bm25(bm25_variant(variant), k1, b, delta);
           },
           "variant"_a, "k1"_a, "b"_a, "delta"_a)
      .def("add",
           [](Bm25& self, const In<std::uint32_t>& terms, const In<std::int64_t>& offsets, const In<std::int64_t>& ids,
              std::size_t vocabulary, const std::optional<In<float>>& weights) {
             check_ragged(terms, offsets);
             const float* const given = checked_weights(self, weights, terms);
             require(offsets.size() == ids.size() + 1, "offsets and ids do not fit");
             for (std::size_t i = 0; i < terms.size(); ++i)
               require(terms.data()[i] < vocabulary, "a term lies outside the vocabulary");
             const nb::gil_scoped_release release;
             self.add(terms.data(), given, offsets.data(), ids.data(), ids.size(), vocabulary);
           },
           "terms"_a, "offsets"_a, "ids"_a, "vocabulary"_a, "weights"_a = nb::none())
      .def("search",
           [](const Bm25& self, const In<std::uint32_t>& terms, const In<std::int64_t>& offsets, std::size_t k,
              const Allowed& allowed, std::size_t threads, const std::optional<In<float>>& weights) {
             check_ragged(terms, offsets);
             const float* const given = checked_weights(self, weights, terms);
             const std::size_t rows = offsets.size() - 1;
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(terms.data(), given, offsets.data(), rows, k, only, threads_of(threads), scores, ids);
             });
           },
           "terms"_a, "offsets"_a, "k"_a, "allowed"_a = nb::none(), "threads"_a = 1, "weights"_a = nb::none())
      .def("state",
           [](nb::handle_t<Bm25> self) {
             const Bm25State state = nb::cast<Bm25&>(self).compacted_state();
             nb::dict arrays;
             arrays["labels"] = view(state.labels, self);
             arrays["term_offsets"] = view(state.term_offsets, self);
             arrays["documents"] = view(state.documents, self);
             arrays["counts"] = view(state.counts, self);
             return arrays;
           },
           "Views into the compacted index; no change may happen while they are read.")
      .def("restore",
           [](Bm25& self, const In<std::int64_t>& labels, const In<std::uint64_t>& term_offsets,
              const In<std::uint32_t>& documents, const In<std::uint32_t>& counts) {
             const nb::gil_scoped_release release;
             self.restore({span(labels), span(term_offsets), span(documents), span(counts)});
           },
           "labels"_a, "term_offsets"_a, "documents"_a, "counts"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(),
           nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>());
}

}  // namespace

void bind_index(nb::module_& m) {
  m.def("vector_distance",
        [](const In<float>& query, const In2<float>& rows, bool l2) {
          const std::size_t dim = query.size(), count = rows.shape(0), stride = simd::padded(dim);
          require(rows.shape(1) == dim && dim > 0, "query and rows have different dimensions");
          Array<float> padded_query, padded_rows;
          padded_query.resize(stride, 0.0f);
          padded_rows.resize(stride * count, 0.0f);
          std::copy_n(query.data(), dim, padded_query.writable());
          for (std::size_t i = 0; i < count; ++i)
            std::copy_n(rows.data() + i * dim, dim, padded_rows.writable() + i * stride);
          auto out = table<float>(2, count);
          const simd::DistanceKernel kernel = l2 ? simd::l2_kernel(simd::level()) : simd::dot_kernel(simd::level());
          for (std::size_t i = 0; i < count; ++i) {
            const float* group[4];
            for (std::size_t j = 0; j < 4; ++j) group[j] = padded_rows.data() + std::min(i + j, count - 1) * stride;
            float four[4];
            kernel.four(padded_query.data(), group, stride, four);
            out.data()[i] = kernel.one(padded_query.data(), group[0], stride);
            out.data()[count + i] = four[0];
          }
          return out;
        },
        "query"_a, "rows"_a, "l2"_a,
        "Dot products or squared distances by the kernels in use: row 0 one at a time, row 1 by fours (for tests).");
  bind_flat(m);
  bind_hnsw(m);
  bind_bm25(m);
  bind_kmeans(m);
  bind_codes(m);
  bind_graph(m);
  bind_ivf(m);
  bind_lsh(m);
  bind_multivector(m);
}

}  // namespace seedbed::index

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/multivector.hpp"

using namespace nanobind::literals;

namespace seedbed::index {
namespace {

void check_offsets(const In<std::int64_t>& offsets, std::size_t tokens) {
  require(offsets.size() > 0 && offsets.data()[0] == 0, "offsets do not begin at 0");
  for (std::size_t i = 1; i < offsets.size(); ++i)
    require(offsets.data()[i] >= offsets.data()[i - 1], "offsets do not rise");
  require(static_cast<std::size_t>(offsets.data()[offsets.size() - 1]) == tokens, "offsets do not end at the last token");
}

// `blocks` holds the documents' tokens, one array after the other; no document lies in two.
template <class T>
nb::object maxsim_scores(const In2<float>& queries, const In<std::int64_t>& query_offsets, const nb::list& blocks,
                         const In<std::int64_t>& offsets, std::size_t threads) {
  const std::size_t dim = queries.shape(1);
  std::vector<In2<T>> held;
  std::size_t tokens = 0;
  for (const nb::handle block : blocks) {
    held.push_back(nb::cast<In2<T>>(block, false));
    require(held.back().shape(1) == dim, "queries and documents have different dimensions");
    tokens += held.back().shape(0);
  }
  check_offsets(query_offsets, queries.shape(0));
  check_offsets(offsets, tokens);
  std::vector<Rows<T>> documents;
  std::size_t block = 0, before = 0;  // tokens of earlier blocks
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    const auto first = static_cast<std::size_t>(offsets.data()[i]), last = static_cast<std::size_t>(offsets.data()[i + 1]);
    if (first == last) {
      documents.push_back({nullptr, 0});
      continue;
    }
    while (first >= before + held[block].shape(0)) before += held[block++].shape(0);
    require(last <= before + held[block].shape(0), "a document lies in two blocks");
    documents.push_back({held[block].data() + (first - before) * dim, last - first});
  }
  const std::size_t rows = query_offsets.size() - 1;
  auto scores = table<float>(rows, documents.size());
  {
    const nb::gil_scoped_release release;
    maxsim<T>(queries.data(), query_offsets.data(), rows, documents, dim, threads_of(threads),
              scores.data());
  }
  return nb::cast(scores);
}

}  // namespace

void bind_multivector(nb::module_& m) {
  m.def("maxsim", &maxsim_scores<float>, "queries"_a, "query_offsets"_a, "blocks"_a, "offsets"_a, "threads"_a,
        "Of documents whose tokens lie in a list of arrays, none in two of them.");
  m.def("maxsim_halves", &maxsim_scores<std::uint16_t>, "queries"_a, "query_offsets"_a, "blocks"_a, "offsets"_a, "threads"_a,
        "Documents are IEEE halves, by their bits.");
  nb::class_<MultiVector> index(m, "MultiVector");
  bind_upkeep(index);
  index
      .def(nb::init<std::size_t, unsigned, const std::string&>(), "dim"_a, "bits"_a, "spill"_a = "")
      .def("set_codec",
           [](MultiVector& self, const In<float>& centroids, const In<float>& cutoffs, const In<float>& weights) {
             self.set_codec(span(centroids), span(cutoffs), span(weights));
           },
           "centroids"_a, "cutoffs"_a, "weights"_a)
      .def("add",
           [](MultiVector& self, const In2<float>& tokens, const In<std::int64_t>& offsets, const In<std::int64_t>& ids,
              std::size_t threads) {
             require(tokens.shape(1) == self.dim() && offsets.size() == ids.size() + 1, "tokens, offsets and ids do not fit");
             check_offsets(offsets, tokens.shape(0));
             const nb::gil_scoped_release release;
             self.add(tokens.data(), offsets.data(), ids.data(), ids.size(), threads_of(threads));
           },
           "tokens"_a, "offsets"_a, "ids"_a, "threads"_a)
      .def("search",
           [](const MultiVector& self, const In2<float>& tokens, const In<std::int64_t>& offsets, std::size_t k,
              std::size_t probes, std::size_t candidates, const Allowed& allowed,
              std::size_t threads) {
             require(tokens.shape(1) == self.dim(), "queries have another dimension");
             check_offsets(offsets, tokens.shape(0));
             const std::size_t rows = offsets.size() - 1;
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(tokens.data(), offsets.data(), rows,
                           {k, probes, candidates, threads_of(threads)}, only,
                           scores, ids);
             });
           },
           "tokens"_a, "offsets"_a, "k"_a, "probes"_a, "candidates"_a, "allowed"_a = nb::none(), "threads"_a = 1)
      .def("first_known",
           [](const MultiVector& self, const In<std::int64_t>& ids) { return self.first_known(ids.data(), ids.size()); },
           "ids"_a, "The first of the ids that is in the index, or -1.")
      .def("decoded",
           [](const MultiVector& self, std::int64_t id) {
             const std::vector<float> found = self.decoded(id);
             auto out = table<float>(found.size() / self.dim(), self.dim());
             std::copy(found.begin(), found.end(), out.data());
             return out;
           },
           "id"_a, "The unit vectors that the document's codes stand for.")
      .def("state",
           [](nb::handle_t<MultiVector> self) {
             const MultiVectorState state = nb::cast<MultiVector&>(self).compacted_state();
             nb::dict arrays;
             arrays["centroids"] = view(state.centroids, self);
             arrays["cutoffs"] = view(state.cutoffs, self);
             arrays["weights"] = view(state.weights, self);
             arrays["labels"] = view(state.labels, self);
             arrays["starts"] = view(state.starts, self);
             arrays["token_centroids"] = view(state.token_centroids, self);
             arrays["codes"] = view(state.codes, self);
             return arrays;
           },
           "Views into the compacted index; no change may happen while they are read.")
      .def("restore",
           [](MultiVector& self, const In<float>& centroids, const In<float>& cutoffs, const In<float>& weights,
              const In<std::int64_t>& labels, const In<std::uint64_t>& starts, const In<std::uint32_t>& token_centroids,
              const In<std::uint8_t>& codes) {
             const nb::gil_scoped_release release;
             self.restore({span(centroids), span(cutoffs), span(weights), span(labels), span(starts),
                           span(token_centroids), span(codes)});
           },
           "centroids"_a, "cutoffs"_a, "weights"_a, "labels"_a, "starts"_a, "token_centroids"_a, "codes"_a,
           nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>(), nb::keep_alive<1, 8>(),
           "Takes the documents' arrays without copying; the first change copies them.")
      .def_prop_ro("trained", &MultiVector::trained)
      .def_prop_ro("tokens", &MultiVector::token_count);
}

}  // namespace seedbed::index

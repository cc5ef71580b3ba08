#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/graph.hpp"

using namespace nanobind::literals;

namespace seedbed::index {
namespace {

Metric metric_of(int number) {
  require(number >= 0 && number <= 2, "the metric is unknown");
  return static_cast<Metric>(number);
}

}  // namespace

void bind_graph(nb::module_& m) {
  nb::class_<Graph> index(m, "Graph");
  bind_upkeep(index);
  bind_add(index);
  index
      .def("__init__",
           [](Graph* self, std::size_t dim, int metric, std::size_t degree, std::size_t ef_construction, bool one_bit,
              std::uint64_t seed) {
             new (self) Graph({dim, metric_of(metric), degree, ef_construction, one_bit, seed});
           },
           "dim"_a, "metric"_a, "degree"_a, "ef_construction"_a, "one_bit"_a, "seed"_a,
           "metric: 0 cosine, 1 dot, 2 l2.")
      .def("search",
           [](const Graph& self, const In2<float>& queries, std::size_t k, std::size_t width, bool exact_walk,
              const Allowed& allowed, std::size_t threads) {
             require(queries.shape(1) == self.dim(), "queries have another dimension");
             const std::size_t rows = queries.shape(0);
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(queries.data(), rows, {k, width, exact_walk, threads_of(threads)}, only, scores, ids);
             });
           },
           "queries"_a, "k"_a, "width"_a, "exact_walk"_a = false, "allowed"_a = nb::none(),
           "threads"_a = 1)
      .def("vectors",
           [](const Graph& self, const In<std::int64_t>& ids) {
             auto out = table<float>(ids.size(), self.dim());
             self.vectors(ids.data(), ids.size(), out.data());
             return out;
           },
           "ids"_a)
      .def("state",
           [](nb::handle_t<Graph> self) {
             const GraphState state = nb::cast<const Graph&>(self).state();
             nb::dict arrays;
             arrays["high"] = view(state.points.high, self);
             arrays["low"] = view(state.points.low, self);
             arrays["shapes"] = view(state.points.shapes, self);
             arrays["centre"] = view(state.points.centre, self);
             arrays["labels"] = view(state.labels, self);
             arrays["flags"] = view(state.flags, self);
             arrays["ring"] = view(state.ring, self);
             arrays["links"] = view(state.links, self);
             arrays["entries"] = view(state.entries, self);
             arrays["blocks"] = view(state.blocks, self);
             nb::dict counts;
             counts["reach"] = state.points.reach;
             counts["sampled_at"] = state.sampled_at;
             counts["unchecked"] = state.unchecked;
             return nb::make_tuple(arrays, counts);
           },
           "Views into the index (no change may happen while they are read), and the numbers that belong to them.")
      .def("restore",
           [](Graph& self, const In<std::uint8_t>& high, const In<std::uint8_t>& low, const In<std::uint8_t>& shapes,
              const In<float>& centre, const In<std::int64_t>& labels, const In<std::uint8_t>& flags,
              const In<Slot>& ring, const In<Slot>& links, const In<Slot>& entries, const In<std::uint8_t>& blocks,
              float reach, std::size_t sampled_at, std::size_t unchecked) {
             const nb::gil_scoped_release release;
             self.restore({{span(high), span(low), span(shapes), span(centre), reach},
                           span(labels), span(flags), span(blocks), span(ring), span(links), span(entries), sampled_at,
                           unchecked});
           },
           "high"_a, "low"_a, "shapes"_a, "centre"_a, "labels"_a, "flags"_a, "ring"_a, "links"_a, "entries"_a,
           "blocks"_a, "reach"_a, "sampled_at"_a, "unchecked"_a, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(),
           nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>(), nb::keep_alive<1, 8>(),
           nb::keep_alive<1, 9>(), nb::keep_alive<1, 10>(), nb::keep_alive<1, 11>());
}

}  // namespace seedbed::index

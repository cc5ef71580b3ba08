#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/lsh.hpp"

using namespace nanobind::literals;

namespace seedbed::index {

void bind_lsh(nb::module_& m) {
  nb::class_<Lsh> index(m, "Lsh");
  bind_upkeep(index);
  bind_add(index);
  index
      .def(nb::init<std::size_t, bool, std::size_t, std::size_t, std::uint64_t>(), "dim"_a, "l2"_a, "tables"_a, "bits"_a,
           "seed"_a)
      .def("search",
           [](const Lsh& self, const In2<float>& queries, std::size_t k, std::size_t probes,
              const Allowed& allowed, std::size_t threads) {
             require(queries.shape(1) == self.dim(), "queries have another dimension");
             const std::size_t rows = queries.shape(0);
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(queries.data(), rows, k, std::max<std::size_t>(1, probes), only,
                           threads_of(threads), scores, ids);
             });
           },
           "queries"_a, "k"_a, "probes"_a, "allowed"_a = nb::none(), "threads"_a = 1)
      .def("content",
           [](nb::handle_t<Lsh> self) {
             const auto& index = nb::cast<const Lsh&>(self);
             const LshContentView content = index.content();
             nb::dict arrays;
             arrays["origin"] = view(content.origin, self);
             arrays["vectors"] = view(content.vectors, self);
             arrays["labels"] = view(content.labels, self);
             arrays["keys"] = moved_out(index.keys());
             return arrays;
           },
           "Views into the index (no change may happen while they are read), and a copy of the keys.")
      .def("restore",
           [](Lsh& self, const In<float>& origin, const In<float>& vectors, const In<std::int64_t>& labels,
              const In<std::uint32_t>& keys) {
             const nb::gil_scoped_release release;
             self.restore({span(origin), span(vectors), span(labels), span(keys)});
           },
           "origin"_a, "vectors"_a, "labels"_a, "keys"_a, nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(),
           nb::keep_alive<1, 5>(), "Takes vectors, labels and keys without copying; the first change copies them.");
}

}  // namespace seedbed::index

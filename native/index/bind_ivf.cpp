#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/ivf.hpp"

using namespace nanobind::literals;

namespace seedbed::index {
namespace {

Codes codes_named(const std::string& name) {
  if (name == "none") return Codes::None;
  if (name == "bytes") return Codes::Bytes;
  require(name == "product", "codes are none, bytes or product");
  return Codes::Product;
}

}  // namespace

void bind_ivf(nb::module_& m) {
  nb::class_<Ivf> index(m, "Ivf");
  bind_upkeep(index);
  bind_add(index);
  index
      .def("__init__",
           [](Ivf* self, std::size_t dim, std::size_t lists, bool l2, const std::string& codes, bool vectors,
              std::size_t subspaces, std::size_t bits) {
             new (self) Ivf({dim, lists, l2, codes_named(codes), vectors, subspaces, bits});
           },
           "dim"_a, "lists"_a, "l2"_a, "codes"_a, "vectors"_a, "subspaces"_a, "bits"_a)
      .def("train",
           [](Ivf& self, const In<float>& origin, const In<float>& centroids, const In<float>& rotation,
              const In<float>& codebooks) {
             const nb::gil_scoped_release release;
             self.train({span(origin), span(centroids), span(rotation), span(codebooks)});
           },
           "origin"_a, "centroids"_a, "rotation"_a, "codebooks"_a)
      .def_prop_ro("trained", &Ivf::trained)
      .def("training",
           [](nb::handle_t<Ivf> self) {
             const IvfTraining training = nb::cast<const Ivf&>(self).training();
             nb::dict arrays;
             arrays["origin"] = view(training.origin, self);
             arrays["centroids"] = view(training.centroids, self);
             arrays["rotation"] = view(training.rotation, self);
             arrays["codebooks"] = view(training.codebooks, self);
             return arrays;
           },
           "Views into the index.")
      .def("search",
           [](const Ivf& self, const In2<float>& queries, std::size_t k, std::size_t probes, std::size_t candidates,
              bool exact, const Allowed& allowed, std::size_t threads) {
             require(queries.shape(1) == self.dim(), "queries have another dimension");
             const std::size_t rows = queries.shape(0);
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(queries.data(), rows, {k, std::max<std::size_t>(1, probes), candidates, exact},
                           only, threads_of(threads), scores, ids);
             });
           },
           "queries"_a, "k"_a, "probes"_a, "candidates"_a, "exact"_a, "allowed"_a = nb::none(), "threads"_a = 1)
      .def("content",
           [](const Ivf& self) {
             IvfContent content;
             {
               const nb::gil_scoped_release release;
               content = self.content();
             }
             nb::dict arrays;
             arrays["sizes"] = moved_out(std::move(content.sizes));
             arrays["labels"] = moved_out(std::move(content.labels));
             arrays["codes"] = moved_out(std::move(content.codes));
             arrays["scales"] = moved_out(std::move(content.scales));
             arrays["adds"] = moved_out(std::move(content.adds));
             arrays["vectors"] = moved_out(std::move(content.vectors));
             return arrays;
           },
           "Copies of the lists, one after another.")
      .def("restore",
           [](Ivf& self, const In<std::uint32_t>& sizes, const In<std::int64_t>& labels, const In<std::uint8_t>& codes,
              const In<float>& scales, const In<float>& adds, const In<float>& vectors) {
             const nb::gil_scoped_release release;
             self.restore({span(sizes), span(labels), span(codes), span(scales), span(adds), span(vectors)});
           },
           "sizes"_a, "labels"_a, "codes"_a, "scales"_a, "adds"_a, "vectors"_a, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>(),
           nb::keep_alive<1, 7>(), "Takes the arrays without copying; changes copy the lists that they touch.")
      .def("list_sizes", [](const Ivf& self) { return moved_out(self.list_sizes()); });
}

}  // namespace seedbed::index

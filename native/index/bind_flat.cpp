#include <nanobind/stl/optional.h>

#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/flat.hpp"

using namespace nanobind::literals;

namespace seedbed::index {

void bind_flat(nb::module_& m) {
  nb::class_<Flat> index(m, "Flat");
  bind_upkeep(index);
  index
      .def(nb::init<std::size_t, bool>(), "dim"_a, "l2"_a)
      .def("add",
           [](Flat& self, const In2<float>& rows, const In<std::int64_t>& ids) {
             require(rows.shape(1) == self.dim() && rows.shape(0) == ids.size(), "rows and ids do not fit");
             const nb::gil_scoped_release release;
             self.add(rows.data(), ids.data(), ids.size());
           },
           "rows"_a, "ids"_a)
      .def("search",
           [](const Flat& self, const In2<float>& queries, std::size_t k, const Allowed& allowed,
              std::size_t threads) {
             require(queries.shape(1) == self.dim(), "queries have another dimension");
             const std::size_t rows = queries.shape(0);
             return answers(rows, k, allowed, [&](const std::vector<std::int64_t>* only, float* scores, std::int64_t* ids) {
               self.search(queries.data(), rows, k, only, threads_of(threads), scores, ids);
             });
           },
           "queries"_a, "k"_a, "allowed"_a = nb::none(), "threads"_a = 1)
      .def("state",
           [](nb::handle_t<Flat> self) {
             const Flat& flat = nb::cast<const Flat&>(self);
             const std::size_t count = flat.labels().size();
             const std::span<const float> vectors(flat.row(0), count * flat.stride());
             return nb::make_tuple(view(vectors, self), view(flat.labels(), self));
           },
           "Views into the index (no change may happen while they are read): vectors, each padded to a multiple of 16, ids.")
      .def("restore",
           [](Flat& self, const In<float>& vectors, const In<std::int64_t>& ids) {
             const nb::gil_scoped_release release;
             self.restore(span(vectors), span(ids));
           },
           "vectors"_a, "ids"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(),
           "Takes vectors (n * dim,) and ids (n,) without copying where dim is a multiple of 16; the first change copies.");
}

}  // namespace seedbed::index

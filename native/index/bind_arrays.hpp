// NumPy arrays in and out, and checks: what the bindings of all indexes share.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace seedbed::index {

namespace nb = nanobind;

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using In2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T>;

template <class T>
std::span<const T> span(const In<T>& array) {
  return {array.data(), array.size()};
}

template <class T>
Out<T> table(std::size_t rows, std::size_t columns) {
  T* data = new T[std::max<std::size_t>(1, rows * columns)];
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Out<T>(data, {rows, columns}, owner);
}

template <class T>
Out<T> moved_out(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Out<T>(kept->data(), {kept->size()}, owner);
}

template <class T>
nb::object view(std::span<const T> values, nb::handle owner) {
  return nb::cast(nb::ndarray<nb::numpy, const T, nb::ndim<1>>(values.data(), {values.size()}, owner));
}

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

inline std::optional<std::vector<std::int64_t>> copied(const std::optional<In<std::int64_t>>& ids) {
  if (!ids) return std::nullopt;
  return std::vector<std::int64_t>(ids->data(), ids->data() + ids->size());
}

using Allowed = std::optional<In<std::int64_t>>;

inline std::size_t checked_cells(std::size_t rows, std::size_t k) {
  require(k <= (std::size_t{1} << 31) && (k == 0 || rows <= (std::size_t{1} << 40) / k), "k is too large");
  return k;
}

inline std::size_t threads_of(std::size_t asked) { return std::clamp<std::size_t>(asked, 1, 256); }

// (scores, ids), both (rows, k), as search(allowed, scores, ids) writes them; it runs without the GIL.
template <class Search>
nb::tuple answers(std::size_t rows, std::size_t k, const Allowed& allowed, const Search& search) {
  auto scores = table<float>(rows, checked_cells(rows, k));
  auto ids = table<std::int64_t>(rows, k);
  const auto only = copied(allowed);
  {
    const nb::gil_scoped_release release;
    search(only ? &*only : nullptr, scores.data(), ids.data());
  }
  return nb::make_tuple(scores, ids);
}

// What every index is asked for in the same way.
template <class Index>
void bind_upkeep(nb::class_<Index>& index) {
  index
      .def("remove",
           [](Index& self, const In<std::int64_t>& ids) {
             const nb::gil_scoped_release release;
             self.remove(ids.data(), ids.size());
           },
           nb::arg("ids"), "Ids are distinct.")
      .def("memory_bytes", &Index::memory_bytes)
      .def("__len__", &Index::size);
  if constexpr (requires(const Index& some) { some.ids(); })
    index.def("ids", [](const Index& self) { return moved_out(self.ids()); });
}

// The vectors of an index, one a row.
template <class Index>
void bind_add(nb::class_<Index>& index) {
  index.def("add",
            [](Index& self, const In2<float>& rows, const In<std::int64_t>& ids, std::size_t threads) {
              require(rows.shape(1) == self.dim() && rows.shape(0) == ids.size(), "rows and ids do not fit");
              const nb::gil_scoped_release release;
              self.add(rows.data(), ids.data(), ids.size(), threads_of(threads));
            },
            nb::arg("rows"), nb::arg("ids"), nb::arg("threads"), "Ids are distinct.");
}

}  // namespace seedbed::index

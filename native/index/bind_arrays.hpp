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

inline std::size_t checked_cells(std::size_t rows, std::size_t k) {
  require(k <= (std::size_t{1} << 31) && (k == 0 || rows <= (std::size_t{1} << 40) / k), "k is too large");
  return k;
}

}  // namespace seedbed::index

// What Python sees of four-bit weights.
#include "quantization/bind.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "quantization/nf4.hpp"
#include "simd/nf4.hpp"

namespace seedbed::quantization {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OutRows = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::size_t blocks_of(std::size_t count) { return (count + simd::kNf4Block - 1) / simd::kNf4Block; }

// The scales of a matrix; it holds the arrays that they lie in.
class Nf4Scales {
 public:
  explicit Nf4Scales(In<float> plain) : plain_(plain), blocks_(plain.size()) {}

  Nf4Scales(In<std::uint8_t> codes, In<float> table, In<float> nested, float offset)
      : codes_(codes), table_(table), nested_(nested), offset_(offset), blocks_(codes.size()) {
    if (table.size() != 256 || nested.size() != (blocks_ + 255) / 256)
      throw std::invalid_argument("a table of 256 and a scale for every 256 blocks are needed");
  }

  Scales of(std::size_t count, std::size_t bytes) const {
    if (blocks_ != blocks_of(count) || bytes != (count + 1) / 2)
      throw std::invalid_argument("codes, scales and count do not fit");
    if (plain_.is_valid()) return {plain_.data(), nullptr, nullptr, nullptr, 0.0f};
    return {nullptr, codes_.data(), table_.data(), nested_.data(), offset_};
  }

 private:
  In<float> plain_;
  In<std::uint8_t> codes_;
  In<float> table_, nested_;
  float offset_ = 0;
  std::size_t blocks_;
};

}  // namespace

void bind_quantization(nb::module_& m) {
  nb::class_<Nf4Scales>(m, "Nf4Scales", "The scales of weights in NF4: floats, or bytes of a table with scales of their own.")
      .def(nb::init<In<float>>(), "scales"_a)
      .def(nb::init<In<std::uint8_t>, In<float>, In<float>, float>(), "codes"_a, "table"_a, "nested"_a, "offset"_a);
  m.def(
      "nf4_pack",
      [](const In<float>& values, const Out<std::uint8_t>& codes, const Out<float>& largest, std::size_t threads) {
        const std::size_t count = values.size();
        if (codes.size() != (count + 1) / 2 || largest.size() != blocks_of(count))
          throw std::invalid_argument("codes or scales of another length");
        nb::gil_scoped_release release;
        pack(values.data(), count, codes.data(), largest.data(), std::max<std::size_t>(1, threads));
      },
      "values"_a, "codes"_a, "largest"_a, "threads"_a = 1, "Round to NF4, 64 weights to a scale, as bitsandbytes does.");
  m.def(
      "nf4_unpack",
      [](const In<std::uint8_t>& codes, const Nf4Scales& scales, const Out<float>& out, std::size_t threads) {
        const Scales found = scales.of(out.size(), codes.size());
        nb::gil_scoped_release release;
        unpack(codes.data(), found, out.size(), out.data(), std::max<std::size_t>(1, threads));
      },
      "codes"_a, "scales"_a, "out"_a, "threads"_a = 1, "The weights as floats.");
  m.def(
      "nf4_multiply",
      [](const Rows& x, const In<std::uint8_t>& codes, const Nf4Scales& scales, const OutRows& out,
         std::size_t threads) {
        const std::size_t outputs = out.shape(1), columns = x.shape(1);
        if (out.shape(0) != x.shape(0) || columns % simd::kNf4Block || columns == 0)
          throw std::invalid_argument("rows do not fit, or columns are no multiple of 64");
        const Scales found = scales.of(outputs * columns, codes.size());
        nb::gil_scoped_release release;
        multiply(x.data(), x.shape(0), codes.data(), found, outputs, columns, out.data(),
                 std::max<std::size_t>(1, threads));
      },
      "x"_a, "codes"_a, "scales"_a, "out"_a, "threads"_a = 1, "x times the weights transposed, read as they lie.");
}

}  // namespace seedbed::quantization

// The codes that indexes are made of, by themselves: for tests against their formulas.
#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/rabitq.hpp"
#include "index/rotation.hpp"
#include "simd/bytes.hpp"

using namespace nanobind::literals;

namespace seedbed::index {

void bind_codes(nb::module_& m) {
  m.def("rotate",
        [](const In2<float>& rows, std::uint64_t seed, bool inverse) {
          const std::size_t count = rows.shape(0), dim = rows.shape(1);
          const Rotation rotation(dim, seed);
          auto out = table<float>(count, dim);
          std::copy_n(rows.data(), count * dim, out.data());
          for (std::size_t i = 0; i < count; ++i)
            inverse ? rotation.invert(out.data() + i * dim) : rotation.apply(out.data() + i * dim);
          return out;
        },
        "rows"_a, "seed"_a, "inverse"_a = false, "A random orthogonal map of each row (n, d); d is a multiple of 16.");
  m.def("rabitq_estimate",
        [](const In2<float>& rows, const In<float>& centre, const In2<float>& queries, bool l2) {
          const std::size_t count = rows.shape(0), dim = rows.shape(1);
          require(dim > 0 && dim % 16 == 0 && centre.size() == dim && queries.shape(1) == dim,
                  "the dimensions differ or are no multiple of 16");
          const std::size_t blocks = (count + rabitq::kBlock - 1) / rabitq::kBlock, bytes = rabitq::block_bytes(dim);
          std::vector<std::uint8_t> codes(blocks * bytes);
          std::vector<float> add(blocks * rabitq::kBlock), scale(add.size()), estimates(add.size());
          for (std::size_t i = 0; i < count; ++i) {
            const auto factors = rabitq::encode(rows.data() + i * dim, centre.data(), dim, l2,
                                                codes.data() + i / rabitq::kBlock * bytes, i % rabitq::kBlock);
            add[i] = factors.add;
            scale[i] = factors.scale;
          }
          auto out = table<float>(queries.shape(0), count);
          rabitq::Query query;
          for (std::size_t q = 0; q < queries.shape(0); ++q) {
            const float* row = queries.data() + q * dim;
            float base = 0;
            for (std::size_t i = 0; i < dim; ++i) {
              const float difference = row[i] - centre.data()[i];
              base += l2 ? difference * difference : -row[i] * centre.data()[i];
            }
            query.set(row, dim);
            for (std::size_t block = 0; block < blocks; ++block)
              query.estimate(codes.data() + block * bytes, add.data() + block * rabitq::kBlock,
                             scale.data() + block * rabitq::kBlock, base, 0.0f,
                             estimates.data() + block * rabitq::kBlock);
            std::copy_n(estimates.data(), count, out.data() + q * count);
          }
          return out;
        },
        "rows"_a, "centre"_a, "queries"_a, "l2"_a,
        "Squared distances or negative dot products (queries, rows), estimated from one-bit codes of rows - centre.");
  m.def("byte_products",
        [](const In<std::int8_t>& query, const In2<std::uint8_t>& codes) {
          const std::size_t count = codes.shape(0), bytes = query.size();
          require(codes.shape(1) == bytes && bytes % simd::kByteLane == 0 && bytes <= simd::kLongest,
                  "query and codes have different lengths, or no multiple of 64");
          auto out = table<std::int32_t>(2, count);
          const simd::ByteKernel kernel = simd::byte_kernel(simd::level());
          for (std::size_t i = 0; i < count; ++i) {
            const std::uint8_t* group[4];
            for (std::size_t j = 0; j < 4; ++j) group[j] = codes.data() + std::min(i + j, count - 1) * bytes;
            std::int32_t four[4];
            kernel.four(query.data(), group, bytes, four);
            out.data()[i] = kernel.one(query.data(), group[0], bytes);
            out.data()[count + i] = four[0];
          }
          return out;
        },
        "query"_a, "codes"_a, "Dot products of bytes: row 0 one at a time, row 1 by fours.");
  m.def("fastscan_sums",
        [](const In2<std::uint8_t>& codes, const In2<std::uint8_t>& tables, std::size_t addable) {
          const std::size_t count = codes.shape(0), groups = codes.shape(1);
          require(count <= simd::kMembers && groups % simd::kLineGroups == 0 && tables.shape(0) == groups &&
                      tables.shape(1) == 16 && addable > 0,
                  "a block has up to 32 members, and a multiple of 4 groups with 16 entries each");
          std::vector<std::uint8_t> block(groups * 16);
          for (std::size_t i = 0; i < count; ++i)
            for (std::size_t group = 0; group < groups; ++group)
              simd::set_code(block.data(), i, group, codes.data()[i * groups + group] & 15u);
          auto out = table<std::uint32_t>(1, simd::kMembers);
          simd::fastscan_kernel(simd::level()).sums(block.data(), {tables.data(), groups, addable}, out.data());
          return out;
        },
        "codes"_a, "tables"_a, "addable"_a,
        "Sums of the entries of `tables` (groups, 16) that `codes` (n, groups) choose.");
}

}  // namespace seedbed::index

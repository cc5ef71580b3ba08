#include "index/bind.hpp"
#include "index/bind_arrays.hpp"
#include "index/kmeans.hpp"
#include "index/panels.hpp"
#include "index/parallel.hpp"

using namespace nanobind::literals;

namespace seedbed::index {
void bind_kmeans(nb::module_& m) {
  m.def("kmeans",
        [](const In2<float>& rows, std::size_t clusters, std::size_t rounds, std::uint64_t seed, bool spherical,
           bool balanced, std::size_t threads) {
          require(rows.shape(1) > 0 && clusters > 0 && clusters <= rows.shape(0), "clusters must lie between 1 and the rows");
          require(rows.shape(0) < 0xFFFFFFFFu, "too many rows");
          KMeansResult found;
          {
            const nb::gil_scoped_release release;
            found = kmeans(rows.data(), rows.shape(0), rows.shape(1),
                           {clusters, rounds, seed, spherical, balanced, std::clamp<std::size_t>(threads, 1, 256)});
          }
          return nb::make_tuple(moved_out(std::move(found.centroids)), moved_out(std::move(found.clusters)), found.inertia, found.rounds);
        },
        "rows"_a, "clusters"_a, "rounds"_a, "seed"_a, "spherical"_a, "balanced"_a, "threads"_a,
        "Centroids (clusters * dim), the cluster of each row, the sum of squared distances, rounds done.");
  m.def("kmeans_of_parts",
        [](const In2<float>& rows, std::size_t parts, std::size_t clusters, std::size_t rounds, std::uint64_t seed,
           std::size_t threads) {
          const std::size_t count = rows.shape(0), dim = rows.shape(1);
          require(parts > 0 && dim > 0 && dim % parts == 0, "the parts do not divide the dimension");
          require(clusters > 0 && clusters <= count && count < 0xFFFFFFFFu, "clusters must lie between 1 and the rows");
          const std::size_t width = dim / parts;
          auto out = table<float>(parts, clusters * width);
          {
            const nb::gil_scoped_release release;
            parallel_for(parts, std::clamp<std::size_t>(threads, 1, 256), [&](std::size_t, std::size_t part) {
              std::vector<float> cut(count * width);
              for (std::size_t i = 0; i < count; ++i)
                std::copy_n(rows.data() + i * dim + part * width, width, cut.data() + i * width);
              const KMeansResult found = kmeans(cut.data(), count, width, {clusters, rounds, seed + part});
              std::copy(found.centroids.begin(), found.centroids.end(), out.data() + part * clusters * width);
            });
          }
          return out;
        },
        "rows"_a, "parts"_a, "clusters"_a, "rounds"_a, "seed"_a, "threads"_a,
        "Centroids (parts, clusters * width) of each of the parts that rows are cut into.");
  m.def("nearest",
        [](const In2<float>& rows, const In2<float>& among, std::size_t threads) {
          require(rows.shape(1) == among.shape(1) && among.shape(0) > 0, "rows and centroids do not fit");
          const std::size_t count = rows.shape(0);
          auto which = table<std::uint32_t>(1, count);
          {
            const nb::gil_scoped_release release;
            Panels panels;
            std::vector<float> values(count);
            panels.pack(among.data(), among.shape(0), among.shape(1), among.data(), nullptr);
            panels.nearest(rows.data(), count, std::clamp<std::size_t>(threads, 1, 256), which.data(), values.data());
          }
          return which;
        },
        "rows"_a, "among"_a, "threads"_a = 1, "Of each row, the nearest (1, n) by Euclidean distance.");
  m.def("products",
        [](const In2<float>& rows, const In2<float>& others, std::size_t threads) {
          require(rows.shape(1) == others.shape(1), "rows have different dimensions");
          auto out = table<float>(rows.shape(0), others.shape(0));
          {
            const nb::gil_scoped_release release;
            Panels panels;
            panels.pack(others.data(), others.shape(0), others.shape(1), nullptr, nullptr);
            panels.products(rows.data(), rows.shape(0), std::clamp<std::size_t>(threads, 1, 256), out.data());
          }
          return out;
        },
        "rows"_a, "others"_a, "threads"_a = 1, "Inner products of all with all, by the kernels in use.");
}

}  // namespace seedbed::index

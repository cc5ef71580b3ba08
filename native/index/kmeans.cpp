#include "index/kmeans.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "index/panels.hpp"
#include "index/parallel.hpp"
#include "index/random.hpp"
#include "simd/distance.hpp"

namespace seedbed::index {
namespace {

constexpr std::size_t kBlock = 1024;  // rows of one piece of work
constexpr std::size_t kFewSums = 1 << 14;

template <class Work>
void by_blocks(std::size_t count, std::size_t threads, const Work& work) {
  parallel_for((count + kBlock - 1) / kBlock, threads, [&](std::size_t, std::size_t block) {
    for (std::size_t i = block * kBlock; i < std::min(count, (block + 1) * kBlock); ++i) work(i);
  });
}

class Lloyd {
 public:
  Lloyd(const float* rows, std::size_t count, std::size_t dim, const KMeansOptions& options)
      : rows_(rows), count_(count), dim_(dim), options_(options), origin_(dim, 0.0f), squares_(count),
        distances_(count), values_(count) {
    result_.centroids.reserve(options.clusters * dim);
    result_.clusters.assign(count, 0);
    prices_.assign(options.clusters, 0.0f);
    if (!options.spherical) find_origin();
    by_blocks(count, options.threads, [&](std::size_t i) {
      double square = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const double x = rows[i * dim + d] - origin_[d];
        square += x * x;
      }
      squares_[i] = static_cast<float>(square);
    });
  }

  KMeansResult run() {
    seed();
    double before = std::numeric_limits<double>::infinity();
    while (result_.rounds < options_.rounds) {
      ++result_.rounds;
      assign();
      const double cost = std::accumulate(distances_.begin(), distances_.end(), 0.0);
      move();
      if (options_.balanced) raise_prices();
      else if (before - cost <= 1e-4 * cost) break;
      before = cost;
    }
    std::fill(prices_.begin(), prices_.end(), 0.0f);
    assign();
    result_.inertia = std::accumulate(distances_.begin(), distances_.end(), 0.0);
    return std::move(result_);
  }

 private:
  void find_origin() {
    std::vector<double> sum(dim_, 0.0);
    for (std::size_t i = 0; i < count_; ++i)
      for (std::size_t d = 0; d < dim_; ++d) sum[d] += rows_[i * dim_ + d];
    for (std::size_t d = 0; d < dim_; ++d) origin_[d] = static_cast<float>(sum[d] / static_cast<double>(count_));
  }

  float distance(std::size_t i, float value) const {
    const float squared = squares_[i] + 2 * value;
    return squared > 1e-6f * squares_[i] ? squared : 0.0f;  // less is rounding
  }

  // k-means|| (Bahmani et al. 2012): more candidates than needed, drawn in rounds in proportion to their squared
  // distance from those before, so that few passes over the rows suffice; k-means++ then chooses among them.
  void seed() {
    const std::size_t wanted = std::min(count_, 2 * options_.clusters);
    std::vector<std::size_t> candidates(count_);
    std::vector<double> weights;
    std::iota(candidates.begin(), candidates.end(), std::size_t{0});
    if (count_ <= 4 * options_.clusters) {
      weights.assign(count_, 1.0);
    } else {
      draw(wanted, candidates);
      weights.assign(wanted, 0.0);
      for (std::uint32_t nearest : result_.clusters) weights[nearest] += 1;
    }
    choose(candidates, weights);
  }

  // Leaves the rows that were drawn in `candidates`, and in result_.clusters which of them is nearest to each row.
  void draw(std::size_t wanted, std::vector<std::size_t>& candidates) {
    std::vector<double> keys(count_);
    std::vector<float> drawn;
    std::vector<std::uint32_t> which(count_);
    std::fill(distances_.begin(), distances_.end(), 1.0f);
    const auto earlier = [&](std::size_t a, std::size_t b) { return keys[a] < keys[b] || (keys[a] == keys[b] && a < b); };
    for (std::size_t have = 0, round = 0; have < wanted; ++round) {
      const std::size_t more = std::min(std::max<std::size_t>(1, have / 2), wanted - have);
      // Drawing without replacement: the least of exponentially distributed keys (Efraimidis & Spirakis 2006).
      by_blocks(count_, options_.threads, [&](std::size_t i) {
        keys[i] = -std::log(random_unit(options_.seed, round, i)) / distances_[i];
      });
      const auto first = candidates.begin() + static_cast<std::ptrdiff_t>(have);
      for (std::size_t i = 0; i < have; ++i) keys[candidates[i]] = std::numeric_limits<double>::infinity();
      std::partial_sort(first, first + static_cast<std::ptrdiff_t>(more), candidates.end(), earlier);
      drawn.resize(more * dim_);
      for (std::size_t i = 0; i < more; ++i)
        std::copy_n(rows_ + candidates[have + i] * dim_, dim_, drawn.data() + i * dim_);
      panels_.pack(drawn.data(), more, dim_, origin_.data(), nullptr);
      panels_.nearest(rows_, count_, options_.threads, which.data(), values_.data());
      by_blocks(count_, options_.threads, [&](std::size_t i) {
        const float now = distance(i, values_[i]);
        if (have > 0 && now >= distances_[i]) return;
        distances_[i] = now;
        result_.clusters[i] = static_cast<std::uint32_t>(have + which[i]);
      });
      have += more;
    }
    candidates.resize(wanted);
  }

  // Greedy k-means++ (Arthur & Vassilvitskii 2007): of a few candidates drawn by weight and squared distance, the one
  // that leaves the least cost becomes the next centroid.
  void choose(const std::vector<std::size_t>& candidates, const std::vector<double>& weights) {
    constexpr std::size_t trials = 4;
    const simd::DistanceKernel kernel = simd::l2_kernel(simd::level());
    const std::size_t stride = simd::padded(dim_), count = candidates.size();
    Array<float> padded;
    padded.resize(count * stride, 0.0f);
    for (std::size_t i = 0; i < count; ++i)
      std::copy_n(rows_ + candidates[i] * dim_, dim_, padded.writable() + i * stride);
    std::vector<float> least(count, std::numeric_limits<float>::max()), tried(trials * count);
    std::vector<double> sums(weights);
    for (std::size_t chosen = 0; chosen < options_.clusters; ++chosen) {
      std::inclusive_scan(sums.begin(), sums.end(), sums.begin());
      const float* rows[trials];
      std::size_t which[trials];
      for (std::size_t t = 0; t < trials; ++t) {
        const double at = random_unit(options_.seed, ~chosen, t) * sums.back();
        const auto found = static_cast<std::size_t>(std::upper_bound(sums.begin(), sums.end(), at) - sums.begin());
        which[t] = found < count ? found : chosen;  // nothing is left but copies of centroids: any will do
        rows[t] = padded.data() + which[t] * stride;
      }
      double costs[trials] = {};
      for (std::size_t i = 0; i < count; ++i) {
        float squared[trials];
        kernel.four(padded.data() + i * stride, rows, stride, squared);
        for (std::size_t t = 0; t < trials; ++t) {
          tried[t * count + i] = std::min(least[i], squared[t]);
          costs[t] += weights[i] * tried[t * count + i];
        }
      }
      const auto best = static_cast<std::size_t>(std::min_element(costs, costs + trials) - costs);
      std::copy_n(tried.data() + best * count, count, least.begin());
      for (std::size_t i = 0; i < count; ++i) sums[i] = weights[i] * least[i];
      const float* row = rows_ + candidates[which[best]] * dim_;
      result_.centroids.insert(result_.centroids.end(), row, row + dim_);
    }
  }

  void assign() {
    panels_.pack(result_.centroids.data(), options_.clusters, dim_, origin_.data(), prices_.data());
    panels_.nearest(rows_, count_, options_.threads, result_.clusters.data(), values_.data());
    by_blocks(count_, options_.threads, [&](std::size_t i) {
      distances_[i] = distance(i, values_[i] - prices_[result_.clusters[i]]);
    });
  }

  // Centroids go to the mean of their rows, summed in the order of the rows; those without rows to the rows that lie
  // farthest from their own centroid.
  void move() {
    const std::size_t clusters = options_.clusters;
    sizes_.assign(clusters, 0);
    for (std::uint32_t cluster : result_.clusters) ++sizes_[cluster];
    if (clusters * dim_ <= kFewSums) average_in_turn();
    else average_by_cluster();
    std::vector<std::size_t> empty;
    for (std::size_t c = 0; c < clusters; ++c)
      if (sizes_[c] == 0) empty.push_back(c);
    if (empty.empty()) return;
    std::vector<std::size_t> far(count_);
    std::iota(far.begin(), far.end(), std::size_t{0});
    std::partial_sort(far.begin(), far.begin() + static_cast<std::ptrdiff_t>(empty.size()), far.end(),
                      [&](std::size_t a, std::size_t b) {
                        return distances_[a] > distances_[b] || (distances_[a] == distances_[b] && a < b);
                      });
    for (std::size_t i = 0; i < empty.size() && distances_[far[i]] > 0; ++i)
      std::copy_n(rows_ + far[i] * dim_, dim_, result_.centroids.data() + empty[i] * dim_);
  }

  // Both ways add up the same numbers in the same order: where all sums stay in the cache, the rows are read in a stream.
  void average_in_turn() {
    std::vector<double> sums(options_.clusters * dim_, 0.0);
    for (std::size_t i = 0; i < count_; ++i) {
      double* sum = sums.data() + result_.clusters[i] * dim_;
      for (std::size_t d = 0; d < dim_; ++d) sum[d] += rows_[i * dim_ + d];
    }
    for (std::size_t c = 0; c < options_.clusters; ++c) place(c, sums.data() + c * dim_);
  }

  void average_by_cluster() {
    std::vector<std::size_t> starts(options_.clusters + 1, 0);
    std::partial_sum(sizes_.begin(), sizes_.end(), starts.begin() + 1);
    std::vector<std::uint32_t> members(count_);
    std::vector<std::size_t> next(starts.begin(), starts.end() - 1);
    for (std::size_t i = 0; i < count_; ++i) members[next[result_.clusters[i]]++] = static_cast<std::uint32_t>(i);
    parallel_for(options_.clusters, options_.threads, [&](std::size_t, std::size_t cluster) {
      std::vector<double> sum(dim_, 0.0);
      for (std::size_t at = starts[cluster]; at < starts[cluster + 1]; ++at) {
        const float* row = rows_ + std::size_t{members[at]} * dim_;
        for (std::size_t d = 0; d < dim_; ++d) sum[d] += row[d];
      }
      place(cluster, sum.data());
    });
  }

  void place(std::size_t cluster, const double* sum) {
    if (sizes_[cluster] == 0) return;
    double scale = 1.0 / static_cast<double>(sizes_[cluster]);
    if (options_.spherical) {
      const double length = std::sqrt(std::inner_product(sum, sum + dim_, sum, 0.0));
      if (length < 1e-12) return;
      scale = 1 / length;
    }
    for (std::size_t d = 0; d < dim_; ++d) result_.centroids[cluster * dim_ + d] = static_cast<float>(sum[d] * scale);
  }

  // Dual ascent on the assignment with equal capacities: a cluster above its share grows dearer by a part of the mean
  // cost of a row, one below it cheaper, in steps that shrink to nothing so that the sizes come to rest.
  void raise_prices() {
    const double share = static_cast<double>(count_) / static_cast<double>(options_.clusters);
    const double cost = std::accumulate(distances_.begin(), distances_.end(), 0.0) / static_cast<double>(count_);
    const double step = 0.02 * (1 - static_cast<double>(result_.rounds) / static_cast<double>(options_.rounds));
    for (std::size_t c = 0; c < options_.clusters; ++c) {
      const double excess = std::log((static_cast<double>(sizes_[c]) + 1) / (share + 1));
      prices_[c] += static_cast<float>(step * cost * excess);
    }
  }

  const float* rows_;
  std::size_t count_, dim_;
  KMeansOptions options_;
  std::vector<float> origin_, squares_, distances_, values_, prices_;
  std::vector<std::size_t> sizes_;
  Panels panels_;
  KMeansResult result_;
};

}  // namespace

KMeansResult kmeans(const float* rows, std::size_t count, std::size_t dim, const KMeansOptions& options) {
  return Lloyd(rows, count, dim, options).run();
}

}  // namespace seedbed::index

// k-means: Lloyd's rounds after a seeding by squared distances. The same rows and seed give the same centroids
// whatever the number of threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace seedbed::index {

struct KMeansOptions {
  std::size_t clusters = 1;
  std::size_t rounds = 20;  // at most; rounds that gain less than 1 in 10,000 end it
  std::uint64_t seed = 0;
  bool spherical = false;  // rows and centroids are unit vectors
  bool balanced = false;   // while centroids move, rows pay a price that rises with a cluster's size: sizes even out
  std::size_t threads = 1;
};

struct KMeansResult {
  std::vector<float> centroids;         // (clusters, dim)
  std::vector<std::uint32_t> clusters;  // of each row, the nearest
  double inertia = 0;                   // sum of squared distances from rows to their centroids
  std::size_t rounds = 0;
};

// Needs 1 <= clusters <= count. Where rows have fewer different values than clusters, some clusters stay empty.
KMeansResult kmeans(const float* rows, std::size_t count, std::size_t dim, const KMeansOptions& options);

}  // namespace seedbed::index

// A random orthogonal map in O(d log d) time: rounds of random signs, a Hadamard transform of the largest power of two
// that fits, and a mixing of halves for the rest, as RaBitQ's authors do in their library. After it, the coordinates of
// any fixed vector look like those of a random direction: no coordinate carries much more than its share.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace seedbed::index {

class Rotation {
 public:
  Rotation() = default;
  // `dim` is a multiple of 16. The same seed gives the same map, to the bit, on every machine.
  Rotation(std::size_t dim, std::uint64_t seed);

  std::size_t dim() const { return dim_; }
  void apply(float* vector) const;   // in place
  void invert(float* vector) const;  // in place

 private:
  std::size_t dim_ = 0, power_ = 0;
  std::vector<float> signs_;  // (rounds, dim)
};

}  // namespace seedbed::index

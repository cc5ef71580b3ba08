// Random numbers by counter: the i-th number of a stream depends on nothing else, so threads may draw in any order.
#pragma once
#include <cstdint>

namespace seedbed::index {

// Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (2014).
inline std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  };
  constexpr std::uint64_t golden = 0x9E3779B97F4A7C15ull;
  return mix(mix(mix(seed + golden) + (stream + 1) * golden) + (i + 1) * golden);
}

// Above 0 and below 1.
inline double random_unit(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  return (static_cast<double>(random_bits(seed, stream, i) >> 12) + 0.5) * 0x1p-52;
}

}  // namespace seedbed::index

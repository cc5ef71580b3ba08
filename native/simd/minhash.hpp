// Minima of many hashes over one set: what MinHash signatures are made of.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kHashLane = 16;  // numbers of hashes are multiples of it: callers pad

// minima[k] = min(minima[k], multipliers[k] * value + addends[k] modulo 2^32) over all values. The same at every level.
using MinimaKernel = void (*)(const std::uint32_t* values, std::size_t count, const std::uint32_t* multipliers,
                              const std::uint32_t* addends, std::size_t hashes, std::uint32_t* minima);

MinimaKernel minima_kernel(Level level);

}  // namespace seedbed::simd

// The numbers of a short array that are large enough.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kTakeLanes = 16;  // lengths are multiples of it

// Writes the positions and the values of all values >= `needed`, in order, and sets the whole array to zero; returns how many.
// Both outputs have room for kTakeLanes more than the array.
using TakeKernel = std::size_t (*)(float* values, std::size_t count, float needed, std::uint32_t* positions, float* taken);

TakeKernel take_kernel(Level level);

}  // namespace seedbed::simd

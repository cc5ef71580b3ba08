// Sums of table entries for blocks of 32 members with four-bit codes, by byte shuffles instead of loads ("fast scan":
// André, Kermarrec & Le Scouarnec, VLDB 2015; the layout in memory is Faiss').
//
// A member's code is a row of groups of four bits. A line of 64 bytes holds four groups, 16 bytes each: byte j has the
// code of member j in its low half and that of member j + 16 in its high half. Tables have 16 bytes for each group.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/level.hpp"

namespace seedbed::simd {

inline constexpr std::size_t kMembers = 32;
inline constexpr std::size_t kLineGroups = 4;  // the number of groups is a multiple of it

struct FastScanTables {
  const std::uint8_t* entries;
  std::size_t groups;
  std::size_t addable;  // so many entries always add up to at most 255: 1 for entries of eight bits, 8 for five bits
};

struct Estimate {
  float base, slope, offset, limit;
};

struct FastScanKernel {
  void (*sums)(const std::uint8_t* codes, const FastScanTables& tables, std::uint32_t* out);
  // out[i] = base + add[i] + scale[i] * (slope * sum[i] + offset); bit i of the answer is set where that is below
  // `limit`.
  std::uint32_t (*estimates)(const std::uint8_t* codes, const FastScanTables& tables, const float* add,
                             const float* scale, const Estimate& estimate, float* out);
};

FastScanKernel fastscan_kernel(Level level);

inline void set_code(std::uint8_t* block, std::size_t member, std::size_t group, unsigned code) {
  std::uint8_t& byte = block[group * 16 + member % 16];
  byte = static_cast<std::uint8_t>(member < 16 ? (byte & 0xF0u) | code : (byte & 0x0Fu) | code << 4);
}

}  // namespace seedbed::simd

// A matrix in NF4: codes, and a scale for every 64 weights that is a float or, quantised a second time, a byte.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seedbed::quantization {

struct Scales {
  const float* plain;            // (blocks), or null
  const std::uint8_t* codes;     // (blocks)
  const float* table;            // (256)
  const float* nested;           // (blocks / 256, rounded up)
  float offset;

  float at(std::size_t block) const {
    return plain ? plain[block] : table[codes[block]] * nested[block / 256] + offset;
  }
};

// Codes ((count + 1) / 2) and the largest magnitude of each block (count / 64, rounded up).
void pack(const float* values, std::size_t count, std::uint8_t* codes, float* largest, std::size_t threads);

// out (count).
void unpack(const std::uint8_t* codes, const Scales& scales, std::size_t count, float* out, std::size_t threads);

// out (rows, outputs) = x (rows, columns) times the matrix (outputs, columns) transposed; columns a multiple of 64.
void multiply(const float* x, std::size_t rows, const std::uint8_t* codes, const Scales& scales, std::size_t outputs,
              std::size_t columns, float* out, std::size_t threads);

}  // namespace seedbed::quantization

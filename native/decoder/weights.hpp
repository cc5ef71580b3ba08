// Matrices of weights as the decoder reads them: float32 where it lies, or a packed copy.
//
// A packed row holds its columns in blocks of 16 32-bit words, then (int8, int4) one float16 scale per 32 columns. Word i
// of a block holds columns i, i + 16, i + 32, ... from its low end to its high one: bfloat16 two of them, int8 four, int4
// eight. Rows are padded with zeros to whole blocks, and to 64 bytes.
//
// int8 and int4 are quantised as GGUF's Q8_0 and Q4_0 are: symmetric in blocks of 32 columns.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tokenizer/huge_pages.hpp"

namespace seedbed::decoder {

enum class Format { Float32 = 0, BFloat16 = 1, Int8 = 2, Int4 = 3 };

inline constexpr std::size_t kWords = 16;   // of a block
inline constexpr std::size_t kScaled = 32;  // columns that share a scale
// Activations are padded with zeros to a multiple of the longest block.
inline constexpr std::size_t kPadding = 128;

constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }
constexpr std::size_t block_columns(Format format) {
  return format == Format::BFloat16 ? 32 : format == Format::Int8 ? 64 : format == Format::Int4 ? 128 : 1;
}

struct Matrix {  // a view
  Format format = Format::Float32;
  const std::byte* data = nullptr;
  std::size_t outputs = 0, columns = 0, stride = 0;  // stride in bytes

  std::size_t padded() const { return round_up(columns, block_columns(format)); }
  std::size_t scales_at() const { return padded() / block_columns(format) * kWords * 4; }  // bytes into a row
};

// Scales of a row as they are unpacked, with what is read behind them.
inline std::size_t scale_count(const Matrix& matrix) { return round_up(matrix.padded() / kScaled, kWords); }
std::size_t packed_stride(Format format, std::size_t columns);

class Packed {
 public:
  Packed(Format format, const float* weights, std::size_t outputs, std::size_t columns);
  Matrix matrix() const { return {format_, bytes_.data(), outputs_, columns_, packed_stride(format_, columns_)}; }
  std::size_t bytes() const { return bytes_.size(); }

 private:
  Format format_;
  std::size_t outputs_, columns_;
  std::vector<std::byte, tokenizer::HugePages<std::byte>> bytes_;
};

}  // namespace seedbed::decoder

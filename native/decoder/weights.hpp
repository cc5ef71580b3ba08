// Matrices of weights as the decoder reads them: float32 where it lies, or a packed copy.
//
// A packed matrix consists of the panels of simd/panels.hpp; outputs and columns are padded with zeros to whole blocks.
// int8 and int4 are quantised as GGUF's Q8_0 and Q4_0 are: symmetric in blocks of 32 columns.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "simd/panels.hpp"
#include "tokenizer/huge_pages.hpp"

namespace seedbed::decoder {

enum class Format { Float32 = 0, BFloat16 = 1, Int8 = 2, Int4 = 3 };

// Activations are padded with zeros to a multiple of it.
inline constexpr std::size_t kPadding = 64;
inline constexpr std::size_t kFloatOutputs = 24;  // a multiple of every tile's outputs

constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }
constexpr simd::Packing packing(Format format) {
  return format == Format::BFloat16 ? simd::Packing::BFloat16
         : format == Format::Int8   ? simd::Packing::Int8
                                    : simd::Packing::Int4;
}

struct Matrix {  // a view
  Format format = Format::Float32;
  const std::byte* data = nullptr;
  std::size_t outputs = 0, columns = 0;

  bool packed() const { return format != Format::Float32; }
  std::size_t blocks() const { return round_up(columns, simd::kBlock) / simd::kBlock; }
  // Outputs are parted at multiples of it.
  std::size_t step() const { return packed() ? simd::kPanel : kFloatOutputs; }
  std::size_t panel_bytes() const { return blocks() * simd::block_bytes(packing(format)); }
  std::size_t bytes() const {
    return packed() ? round_up(outputs, simd::kPanel) / simd::kPanel * panel_bytes() : 4 * outputs * columns;
  }
  // Outputs [first, last); `first` is a multiple of step().
  Matrix part(std::size_t first, std::size_t last) const {
    return {format, data + (packed() ? first / simd::kPanel * panel_bytes() : 4 * first * columns), last - first, columns};
  }
  // The weights of one output.
  void unpack(std::size_t output, float* out) const;
};

class Packed {
 public:
  Packed(Format format, const float* weights, std::size_t outputs, std::size_t columns);
  Matrix matrix() const { return {format_, bytes_.data(), outputs_, columns_}; }

 private:
  Format format_;
  std::size_t outputs_, columns_;
  std::vector<std::byte, tokenizer::HugePages<std::byte>> bytes_;
};

// y[r * y_stride + n] = bias[n] + product of rounded row r and output n of a packed matrix, added to what is there with
// `add`; `bias` may be null. Rows are `matrix.blocks() * kernel.row_bytes` apart.
void multiply_panels(const simd::PanelKernel& kernel, const std::byte* rows, std::size_t count, const Matrix& matrix,
                     const float* bias, bool add, float* y, std::size_t y_stride);

}  // namespace seedbed::decoder

#include "decoder/weights.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace seedbed::decoder {
namespace {

// Round to nearest, ties to even. Scales are not negative infinity or NaN in finite weights; those pass through.
std::uint16_t to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t size = bits & 0x7FFFFFFFu;
  if (size >= 0x7F800000u) return static_cast<std::uint16_t>(sign | (size > 0x7F800000u ? 0x7E00u : 0x7C00u));
  // Numbers below 2^-14 have a fixed unit of 2^-24: the sum with 0.5 rounds to it, in the processor's own rounding.
  if (size < 0x38800000u)
    return static_cast<std::uint16_t>(
        sign | (std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f)));
  const std::uint32_t rounded = size - 0x38000000u + 0xFFFu + ((size >> 13) & 1);
  return static_cast<std::uint16_t>(sign | std::min(rounded >> 13, 0x7C00u));
}

// The bits of a weight in a panel of 32 outputs: byte, and shift within it.
std::pair<std::size_t, unsigned> place_of(Format format, std::size_t output, std::size_t column) {
  const std::size_t block = column / simd::kBlock * simd::block_bytes(packing(format)), k = column % simd::kBlock;
  const auto word = [&](std::size_t q) { return block + 4 * (q * simd::kPanel + output % simd::kPanel); };
  if (format == Format::BFloat16) return {word(k / 2) + k % 2 * 2, 0};
  if (format == Format::Int8) return {word(k / 4) + k % 4, 0};
  return {word(k / 4 % 4) + k % 4, k < 16 ? 0 : 4};
}

std::size_t scale_at(Format format, std::size_t output, std::size_t column) {
  const std::size_t values = simd::word_count(packing(format)) * 4 * simd::kPanel;
  return column / simd::kBlock * simd::block_bytes(packing(format)) + values + 2 * (output % simd::kPanel);
}

// Of one output, in its panel.
void pack_scaled(Format format, const float* weights, std::size_t output, std::size_t columns, std::byte* panel) {
  for (std::size_t from = 0; from < columns; from += simd::kBlock) {
    const std::size_t count = std::min(simd::kBlock, columns - from);
    float largest = 0;  // by size, with its sign
    bool finite = true;
    for (std::size_t i = 0; i < count; ++i) {
      if (std::abs(weights[from + i]) > std::abs(largest)) largest = weights[from + i];
      finite = finite && std::isfinite(weights[from + i]);
    }
    // What is not a number must not pass for one: its block's scale is NaN, and so are the products.
    if (!finite) largest = std::numeric_limits<float>::quiet_NaN();
    const float scale = format == Format::Int8 ? std::abs(largest) / 127 : largest / -8;
    const float inverse = scale == 0 || std::isnan(scale) ? 0.0f : 1 / scale;
    std::uint16_t half = to_half(scale);
    if ((half & 0x7C00u) == 0x7C00u) half = 0x7E00u;  // too large for a half, too
    std::memcpy(panel + scale_at(format, output, from), &half, 2);
    for (std::size_t i = 0; i < count; ++i) {
      const float scaled = inverse == 0 ? 0.0f : weights[from + i] * inverse;
      const int code = format == Format::Int8
                           ? 128 + static_cast<int>(std::clamp(std::round(scaled), -127.0f, 127.0f))
                           : static_cast<int>(std::clamp(scaled + 8.5f, 0.0f, 15.0f));
      const auto [byte, shift] = place_of(format, output, from + i);
      panel[byte] |= static_cast<std::byte>(code << shift);
    }
  }
}

}  // namespace

void Matrix::unpack(std::size_t output, float* out) const {
  if (!packed()) {
    std::memcpy(out, data + 4 * output * columns, 4 * columns);
    return;
  }
  const std::byte* panel = data + output / simd::kPanel * panel_bytes();
  for (std::size_t k = 0; k < columns; ++k) {
    const auto [byte, shift] = place_of(format, output, k);
    std::uint16_t bits;
    if (format == Format::BFloat16) {
      std::memcpy(&bits, panel + byte, 2);
      out[k] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      continue;
    }
    std::memcpy(&bits, panel + scale_at(format, output, k), 2);
    const int code = static_cast<int>(panel[byte]) >> shift;
    out[k] = static_cast<float>(format == Format::Int8 ? code - 128 : (code & 15) - 8) * simd::from_half(bits);
  }
}

Packed::Packed(Format format, const float* weights, std::size_t outputs, std::size_t columns)
    : format_(format), outputs_(outputs), columns_(columns), bytes_(matrix().bytes()) {
  const std::size_t panel_bytes = matrix().panel_bytes();
  for (std::size_t n = 0; n < outputs; ++n, weights += columns) {
    std::byte* panel = bytes_.data() + n / simd::kPanel * panel_bytes;
    if (format != Format::BFloat16) {
      pack_scaled(format, weights, n, columns, panel);
      continue;
    }
    for (std::size_t k = 0; k < columns; ++k) {
      const std::uint16_t bits = simd::to_bfloat16(weights[k]);
      std::memcpy(panel + place_of(format, n, k).first, &bits, 2);
    }
  }
}

void multiply_panels(const simd::PanelKernel& kernel, const std::byte* rows, std::size_t count, const Matrix& matrix,
                     const float* bias, bool add, float* y, std::size_t y_stride) {
  using simd::kPanel, simd::kPanelRows;
  const std::size_t blocks = matrix.blocks(), stride = blocks * kernel.row_bytes, panel_bytes = matrix.panel_bytes();
  const std::byte* panel = matrix.data;
  for (std::size_t n = 0; n < matrix.outputs; n += kPanel, panel += panel_bytes) {
    const std::size_t width = std::min(kPanel, matrix.outputs - n);
    float own_bias[kPanel] = {}, tile[kPanelRows * kPanel];
    if (bias) std::copy_n(bias + n, width, own_bias);
    const float* panel_bias = bias ? own_bias : nullptr;
    for (std::size_t r = 0; r < count; r += kPanelRows) {
      const std::size_t some = std::min(kPanelRows, count - r);
      float* to = y + r * y_stride + n;
      if (!add && width == kPanel) {
        kernel.multiply(rows + r * stride, some, panel, blocks, panel_bias, to, y_stride);
        continue;
      }
      kernel.multiply(rows + r * stride, some, panel, blocks, panel_bias, tile, kPanel);
      for (std::size_t i = 0; i < some; ++i)
        for (std::size_t j = 0; j < width; ++j)
          to[i * y_stride + j] = (add ? to[i * y_stride + j] : 0.0f) + tile[i * kPanel + j];
    }
  }
}

}  // namespace seedbed::decoder

#include "decoder/weights.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace seedbed::decoder {
namespace {

// Round to nearest, ties to even; NaN stays one.
std::uint16_t to_bfloat16(float value) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  bits += 0x7FFFu + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>(bits >> 16);
}

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

void set_bits(std::byte* row, std::size_t column, unsigned bits, std::uint32_t value) {
  const std::size_t per_word = 32 / bits, block = kWords * per_word;
  const std::size_t inside = column % block;
  std::byte* at = row + (column / block * kWords + inside % kWords) * 4;
  std::uint32_t word;
  std::memcpy(&word, at, 4);
  word |= value << (inside / kWords * bits);
  std::memcpy(at, &word, 4);
}

void pack_scaled(Format format, const float* weights, std::size_t columns, std::byte* row, std::byte* scales) {
  for (std::size_t from = 0; from < columns; from += kScaled, scales += 2) {
    const std::size_t count = std::min(kScaled, columns - from);
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
    const std::uint16_t half = to_half(scale);
    std::memcpy(scales, &half, 2);
    for (std::size_t i = 0; i < count; ++i) {
      const float scaled = inverse == 0 ? 0.0f : weights[from + i] * inverse;
      if (format == Format::Int8) {
        const auto code = static_cast<std::int32_t>(std::clamp(std::round(scaled), -127.0f, 127.0f));
        set_bits(row, from + i, 8, static_cast<std::uint32_t>(code) & 0xFFu);
      } else {
        set_bits(row, from + i, 4, static_cast<std::uint32_t>(std::clamp(scaled + 8.5f, 0.0f, 15.0f)));
      }
    }
    // Of a last, shorter group the rest stands for zero.
    if (format == Format::Int4)
      for (std::size_t i = count; i < kScaled; ++i) set_bits(row, from + i, 4, 8);
  }
}

}  // namespace

std::size_t packed_stride(Format format, std::size_t columns) {
  const std::size_t padded = round_up(columns, block_columns(format));
  const std::size_t scales = format == Format::BFloat16 ? 0 : round_up(padded / kScaled, kWords) * 2;
  return round_up(padded / block_columns(format) * kWords * 4 + scales, 64);
}

Packed::Packed(Format format, const float* weights, std::size_t outputs, std::size_t columns)
    : format_(format), outputs_(outputs), columns_(columns), bytes_(outputs * packed_stride(format, columns)) {
  const Matrix whole = matrix();
  for (std::size_t n = 0; n < outputs; ++n, weights += columns) {
    std::byte* row = bytes_.data() + n * whole.stride;
    if (format == Format::BFloat16)
      for (std::size_t k = 0; k < columns; ++k) set_bits(row, k, 16, to_bfloat16(weights[k]));
    else
      pack_scaled(format, weights, columns, row, row + whole.scales_at());
  }
}

}  // namespace seedbed::decoder

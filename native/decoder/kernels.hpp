// The arithmetic of a decoder's step, for each instruction set. All accumulate a sum in one chain over the columns, so a
// result is the same, bit for bit, however many rows are computed with it.
#pragma once
#include <cstddef>

#include "decoder/weights.hpp"
#include "simd/level.hpp"

namespace seedbed::decoder {

enum class Precision { Float32 = 0, BFloat16 = 1 };  // of the cache
constexpr std::size_t bytes_of(Precision precision) { return precision == Precision::Float32 ? 4 : 2; }

enum class Activation { Silu = 0, Gelu = 1, GeluTanh = 2, Relu = 3, Relu2 = 4 };

// y[r * y_stride + n] = bias[n] + sum over k of x[r * x_stride + k] * weights[n * stride + k], added to what is there with
// `add`.
struct Product {
  const float* x;  // rows padded with zeros to whole registers
  std::size_t x_stride, rows;
  const float* weights;
  std::size_t stride, outputs, columns;
  const float* bias;  // or null
  bool add;
  float* y;
  std::size_t y_stride;
};

struct Kernels {
  void (*product)(const Product& product);
  void (*rms_norm)(const float* x, const float* weight, float epsilon, std::size_t width, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, std::size_t width, float* out);
  // values = activation(values), times `up` unless it is null.
  void (*activate)(Activation activation, float* values, const float* up, std::size_t count);
  // Pairs (x[d], x[d + width / 2]) turned by the angles' cosines and sines (width,).
  void (*rotate)(float* x, const float* cosines, const float* sines, std::size_t width);
  void (*soft_cap)(float* values, float cap, std::size_t count);
  // values = exp(values - their largest); returns their sum and the largest.
  float (*exponentials)(float* values, std::size_t count, float* largest);
  // Of keys and values of each Precision, whose rows are so many bytes apart:
  // Where queries meet bfloat16 keys, each 2 `lanes` columns have the even ones first, then the odd ones.
  std::size_t lanes;
  // out[r * out_stride + s] = sum over d of queries[r * query_stride + d] * keys[s][d]; queries are padded with zeros to
  // 2 lanes.
  void (*score[2])(const float* queries, std::size_t query_stride, std::size_t rows, const std::byte* keys,
                   std::size_t key_stride, std::size_t count, std::size_t width, float* out, std::size_t out_stride);
  // out[r * out_stride + d] = sum over s of weights[r * weight_stride + s] * values[s][d] times scales[r]; `out` has
  // room for 2 lanes beyond width.
  void (*mix[2])(const float* weights, std::size_t weight_stride, std::size_t rows, const std::byte* values,
                 std::size_t value_stride, std::size_t count, std::size_t width, const float* scales, float* out,
                 std::size_t out_stride);
};

const Kernels& kernels(simd::Level level);

namespace scalar { extern const Kernels kKernels; }
namespace avx2 { extern const Kernels kKernels; }
namespace avx512 { extern const Kernels kKernels; }

}  // namespace seedbed::decoder

// The kernels of kernels.hpp for one instruction set: SEEDBED_NAMESPACE, SEEDBED_WIDTH floats to a register and
// SEEDBED_TARGET, the attribute that lets the compiler use it. Tiles of sums fill the registers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "decoder/kernels.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // registers are passed to inlined functions alone
#endif

namespace seedbed::decoder::SEEDBED_NAMESPACE {
namespace {

#include "decoder/vectors.inl"

#include "decoder/products.inl"

SEEDBED_TARGET void rms_norm(const float* x, const float* weight, float epsilon, std::size_t width, float* out) {
  F squares{};
  std::size_t i = 0;
  for (; i + W <= width; i += W) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (std::size_t j = i; j < width; ++j) total += x[j] * x[j];
  const float scale = 1 / std::sqrt(total / static_cast<float>(width) + epsilon);
  for (i = 0; i + W <= width; i += W) store(out + i, load(x + i) * scale * load(weight + i));
  for (; i < width; ++i) out[i] = x[i] * scale * weight[i];
}

SEEDBED_TARGET void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, std::size_t width,
                               float* out) {
  F lanes{};
  std::size_t i = 0;
  for (; i + W <= width; i += W) lanes += load(x + i);
  float total = sum(lanes);
  for (std::size_t j = i; j < width; ++j) total += x[j];
  const float mean = total / static_cast<float>(width);
  lanes = F{};
  for (i = 0; i + W <= width; i += W) lanes += (load(x + i) - mean) * (load(x + i) - mean);
  total = sum(lanes);
  for (std::size_t j = i; j < width; ++j) total += (x[j] - mean) * (x[j] - mean);
  const float scale = 1 / std::sqrt(total / static_cast<float>(width) + epsilon);
  for (i = 0; i < width; ++i) out[i] = (x[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f);
}

SEEDBED_INLINE F activated(Activation activation, F x) {
  switch (activation) {
    case Activation::Silu: return x / (1.0f + exponential(-x));
    case Activation::GeluTanh: {  // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u))
      const F twice = 1.5957691216f * (x + 0.044715f * x * x * x);
      return x / (1.0f + exponential(-twice));
    }
    case Activation::Gelu: {
      F out;
      for (std::size_t i = 0; i < W; ++i) out[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678118f));
      return out;
    }
    default: {
      const F positive = x < 0.0f ? F{} : x;
      return activation == Activation::Relu2 ? positive * positive : positive;
    }
  }
}

SEEDBED_TARGET void activate(Activation activation, float* values, const float* up, std::size_t count) {
  std::size_t i = 0;
  for (; i + W <= count; i += W) {
    const F value = activated(activation, load(values + i));
    store(values + i, up ? value * load(up + i) : value);
  }
  if (i == count) return;
  F value = activated(activation, load_part(values + i, count - i));
  if (up) value *= load_part(up + i, count - i);
  __builtin_memcpy(values + i, &value, 4 * (count - i));
}

SEEDBED_TARGET void rotate(float* x, const float* cosines, const float* sines, std::size_t width) {
  const std::size_t half = width / 2;
  std::size_t d = 0;
  for (; d + W <= half; d += W) {
    const F a = load(x + d), b = load(x + half + d);
    store(x + d, a * load(cosines + d) - b * load(sines + d));
    store(x + half + d, b * load(cosines + half + d) + a * load(sines + half + d));
  }
  for (; d < half; ++d) {
    const float a = x[d], b = x[half + d];
    x[d] = a * cosines[d] - b * sines[d];
    x[half + d] = b * cosines[half + d] + a * sines[half + d];
  }
}

SEEDBED_TARGET void soft_cap(float* values, float cap, std::size_t count) {
  std::size_t i = 0;
  for (; i + W <= count; i += W)
    store(values + i, cap * (1.0f - 2.0f / (exponential(load(values + i) * (2 / cap)) + 1.0f)));
  const F rest = cap * (1.0f - 2.0f / (exponential(load_part(values + i, count - i) * (2 / cap)) + 1.0f));
  __builtin_memcpy(values + i, &rest, 4 * (count - i));
}

SEEDBED_TARGET float exponentials(float* values, std::size_t count, float* largest) {
  F most = splat(*largest);
  std::size_t i = 0;
  for (; i + W <= count; i += W) most = larger(load(values + i), most);
  float top = *largest;
  for (std::size_t lane = 0; lane < W; ++lane) top = std::max(top, most[lane]);
  for (std::size_t j = i; j < count; ++j) top = std::max(top, values[j]);
  F total{};
  for (i = 0; i + W <= count; i += W) {
    const F value = exponential(load(values + i) - top);
    total += value;
    store(values + i, value);
  }
  F rest = splat(-std::numeric_limits<float>::infinity());
  __builtin_memcpy(&rest, values + i, 4 * (count - i));
  rest = exponential(rest - top);
  __builtin_memcpy(values + i, &rest, 4 * (count - i));
  total += rest;
  *largest = top;
  return sum(total);
}

template <std::size_t R, std::size_t N>
SEEDBED_TARGET void mix_tile(const float* weights, std::size_t weight_stride, const float* values,
                             std::size_t value_stride, std::size_t count, const float* scales, float* out,
                             std::size_t out_stride) {
  F total[R][N] = {};
  for (std::size_t s = 0; s < count; ++s, values += value_stride) {
    F value[N];
#pragma GCC unroll 8
    for (std::size_t n = 0; n < N; ++n) value[n] = held(load(values + n * W));
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const F weight = splat(weights[r * weight_stride + s]);
#pragma GCC unroll 8
      for (std::size_t n = 0; n < N; ++n) total[r][n] += weight * value[n];
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t n = 0; n < N; ++n) store(out + r * out_stride + n * W, total[r][n] * scales[r]);
}

template <std::size_t R>
SEEDBED_TARGET void mix_rows(const float* weights, std::size_t weight_stride, const float* values,
                             std::size_t value_stride, std::size_t count, std::size_t width, const float* scales,
                             float* out, std::size_t out_stride) {
  constexpr std::size_t N = W == 16 ? 4 : 2;
  std::size_t d = 0;
  for (; d + N * W <= width; d += N * W)
    mix_tile<R, N>(weights, weight_stride, values + d, value_stride, count, scales, out + d, out_stride);
  for (; d + W <= width; d += W)
    mix_tile<R, 1>(weights, weight_stride, values + d, value_stride, count, scales, out + d, out_stride);
  for (; d < width; ++d)
    for (std::size_t r = 0; r < R; ++r) {
      float total = 0;
      for (std::size_t s = 0; s < count; ++s) total += weights[r * weight_stride + s] * values[s * value_stride + d];
      out[r * out_stride + d] = total * scales[r];
    }
}

SEEDBED_TARGET void mix(const float* weights, std::size_t weight_stride, std::size_t rows, const float* values,
                        std::size_t value_stride, std::size_t count, std::size_t width, const float* scales, float* out,
                        std::size_t out_stride) {
  std::size_t r = 0;
  for (; r + 4 <= rows; r += 4)
    mix_rows<4>(weights + r * weight_stride, weight_stride, values, value_stride, count, width, scales + r,
                out + r * out_stride, out_stride);
  const auto rest = [&]<std::size_t R>() SEEDBED_TARGET {
    mix_rows<R>(weights + r * weight_stride, weight_stride, values, value_stride, count, width, scales + r,
                out + r * out_stride, out_stride);
  };
  if (rows - r == 3) rest.template operator()<3>();
  if (rows - r == 2) rest.template operator()<2>();
  if (rows - r == 1) rest.template operator()<1>();
}

}  // namespace

const Kernels kKernels = {product, rms_norm, layer_norm, activate, rotate, soft_cap, exponentials, mix};

}  // namespace seedbed::decoder::SEEDBED_NAMESPACE

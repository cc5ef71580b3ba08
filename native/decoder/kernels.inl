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

#include "decoder/looks.inl"

}  // namespace

const Kernels kKernels = {product,  rms_norm,     layer_norm, activate,       rotate,
                          soft_cap, exponentials, W,          {score<Plain>, score<Half>}, {mix<Plain>, mix<Half>}};

}  // namespace seedbed::decoder::SEEDBED_NAMESPACE

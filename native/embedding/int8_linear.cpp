#include "embedding/int8_linear.hpp"

#include <algorithm>
#include <cmath>

#include "index/parallel.hpp"
#include "simd/int8_products.hpp"

namespace seedbed::embedding {

using simd::kBlock;
using simd::kInt8Rows;
using simd::kPanel;
using simd::kQuad;

Int8Linear::Int8Linear(const float* weights, const float* bias, std::size_t outputs, std::size_t columns)
    : outputs_(outputs), columns_(columns), blocks_((columns + kBlock - 1) / kBlock), panels_((outputs + kPanel - 1) / kPanel),
      values_(panels_ * blocks_ * kBlock * kPanel, 128), scales_(panels_ * blocks_ * kPanel), bias_(panels_ * kPanel) {
  for (std::size_t n = 0; n < outputs; ++n) {
    const std::size_t panel = n / kPanel, place = n % kPanel;
    if (bias) bias_[n] = bias[n];
    for (std::size_t b = 0; b < blocks_; ++b) {
      const std::size_t first = b * kBlock, last = std::min(columns, first + kBlock);
      const float* row = weights + n * columns;
      float largest = 0;
      for (std::size_t k = first; k < last; ++k) largest = std::max(largest, std::fabs(row[k]));
      const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
      scales_[(panel * blocks_ + b) * kPanel + place] = largest / 127.0f;
      for (std::size_t k = first; k < last; ++k)
        values_[(panel * blocks_ * kBlock + k / kQuad * kQuad) * kPanel + place * kQuad + k % kQuad] =
            static_cast<std::uint8_t>(128 + static_cast<int>(std::nearbyint(row[k] * inverse)));
    }
  }
}

void Int8Linear::forward(const float* x, std::size_t rows, float* out, std::size_t threads) const {
  constexpr std::size_t kRowsAtOnce = 16 * kInt8Rows;  // stay in the second cache while the weights go by
  const simd::Int8Kernel kernel = simd::int8_kernel(simd::level());
  struct Scratch {
    std::vector<std::int8_t> values;
    std::vector<float> scales, padded, tile;
    std::vector<std::int32_t> corrections;
  };
  std::vector<Scratch> scratches(std::max<std::size_t>(1, threads));
  index::parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, threads, [&](std::size_t worker, std::size_t part) {
    Scratch& s = scratches[worker];
    s.values.resize(kRowsAtOnce * blocks_ * kBlock);
    s.scales.resize(kRowsAtOnce * blocks_);
    s.corrections.resize(kRowsAtOnce * blocks_);
    s.padded.resize(blocks_ * kBlock);
    s.tile.resize(kInt8Rows * kPanel);
    const std::size_t first = part * kRowsAtOnce, count = std::min(kRowsAtOnce, rows - first);
    for (std::size_t r = 0; r < count; ++r) {
      const float* row = x + (first + r) * columns_;
      if (columns_ % kBlock) {
        std::copy(row, row + columns_, s.padded.begin());
        row = s.padded.data();
      }
      kernel.quantise(row, blocks_, s.values.data() + r * blocks_ * kBlock, s.scales.data() + r * blocks_,
                      s.corrections.data() + r * blocks_);
    }
    for (std::size_t panel = 0; panel < panels_; ++panel) {
      const simd::Int8Panel weights{values_.data() + panel * blocks_ * kBlock * kPanel,
                                    scales_.data() + panel * blocks_ * kPanel};
      const std::size_t width = std::min(kPanel, outputs_ - panel * kPanel);
      for (std::size_t r = 0; r < count; r += kInt8Rows) {
        const simd::Int8Rows tile{s.values.data() + r * blocks_ * kBlock, s.scales.data() + r * blocks_,
                                  s.corrections.data() + r * blocks_};
        const std::size_t height = std::min(kInt8Rows, count - r);
        float* to = out + (first + r) * outputs_ + panel * kPanel;
        if (width == kPanel) {
          kernel.multiply(tile, height, weights, blocks_, bias_.data() + panel * kPanel, to, outputs_);
          continue;
        }
        kernel.multiply(tile, height, weights, blocks_, bias_.data() + panel * kPanel, s.tile.data(), kPanel);
        for (std::size_t i = 0; i < height; ++i)
          std::copy_n(s.tile.data() + i * kPanel, width, to + i * outputs_);
      }
    }
  });
}

}  // namespace seedbed::embedding

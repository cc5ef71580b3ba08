#include "embedding/int8_linear.hpp"

#include <algorithm>

#include "index/parallel.hpp"

namespace seedbed::embedding {

Int8Linear::Int8Linear(const float* weights, const float* bias, std::size_t outputs, std::size_t columns)
    : weights_(decoder::Format::Int8, weights, outputs, columns) {
  if (bias) bias_.assign(bias, bias + outputs);
}

void Int8Linear::forward(const float* x, std::size_t rows, float* out, std::size_t threads) const {
  constexpr std::size_t kRowsAtOnce = 16 * simd::kPanelRows;  // stay in the second cache while the weights go by
  const simd::PanelKernel kernel = simd::panel_kernel(simd::Packing::Int8, simd::level());
  const decoder::Matrix matrix = weights_.matrix();
  const std::size_t blocks = matrix.blocks(), columns = matrix.columns;
  struct Scratch {
    std::vector<std::byte> rounded;
    std::vector<float> padded;
  };
  std::vector<Scratch> scratches(std::max<std::size_t>(1, threads));
  index::parallel_for((rows + kRowsAtOnce - 1) / kRowsAtOnce, threads, [&](std::size_t worker, std::size_t part) {
    Scratch& s = scratches[worker];
    s.rounded.resize(kRowsAtOnce * blocks * kernel.row_bytes);
    s.padded.resize(blocks * simd::kBlock);
    const std::size_t first = part * kRowsAtOnce, count = std::min(kRowsAtOnce, rows - first);
    for (std::size_t r = 0; r < count; ++r) {
      const float* row = x + (first + r) * columns;
      if (columns % simd::kBlock) {
        std::copy(row, row + columns, s.padded.begin());
        row = s.padded.data();
      }
      kernel.round(row, blocks, s.rounded.data() + r * blocks * kernel.row_bytes);
    }
    decoder::multiply_panels(kernel, s.rounded.data(), count, matrix, bias_.empty() ? nullptr : bias_.data(), false,
                             out + first * matrix.outputs, matrix.outputs);
  });
}

}  // namespace seedbed::embedding

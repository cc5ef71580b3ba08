// A linear layer in 8-bit integers: weights packed once, activations rounded row by row as they come.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace seedbed::embedding {

class Int8Linear {
 public:
  // weights (outputs, columns), bias (outputs) or null.
  Int8Linear(const float* weights, const float* bias, std::size_t outputs, std::size_t columns);

  std::size_t outputs() const { return outputs_; }
  std::size_t columns() const { return columns_; }
  std::size_t bytes() const { return values_.size() + 4 * (scales_.size() + bias_.size()); }

  // out (rows, outputs) of x (rows, columns).
  void forward(const float* x, std::size_t rows, float* out, std::size_t threads) const;

 private:
  std::size_t outputs_, columns_, blocks_, panels_;
  std::vector<std::uint8_t> values_;  // (panels, columns / 4, 32, 4)
  std::vector<float> scales_, bias_;  // (panels, blocks, 32), (panels, 32)
};

}  // namespace seedbed::embedding

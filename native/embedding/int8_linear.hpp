// A linear layer in 8-bit integers: weights packed once, activations rounded row by row as they come.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoder/weights.hpp"

namespace seedbed::embedding {

class Int8Linear {
 public:
  // weights (outputs, columns), bias (outputs) or null.
  Int8Linear(const float* weights, const float* bias, std::size_t outputs, std::size_t columns);

  std::size_t outputs() const { return weights_.matrix().outputs; }
  std::size_t columns() const { return weights_.matrix().columns; }
  std::size_t bytes() const { return weights_.matrix().bytes() + 4 * bias_.size(); }

  // out (rows, outputs) of x (rows, columns).
  void forward(const float* x, std::size_t rows, float* out, std::size_t threads) const;

 private:
  decoder::Packed weights_;
  std::vector<float> bias_;
};

}  // namespace seedbed::embedding

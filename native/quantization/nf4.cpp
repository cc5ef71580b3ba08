#include "quantization/nf4.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "decoder/pool.hpp"
#include "simd/nf4.hpp"

namespace seedbed::quantization {
namespace {

using simd::kNf4;
using simd::kNf4Block;
using simd::kNf4Group;
using simd::kNf4Rows;

constexpr std::size_t kLeastWeights = 1 << 19, kLeastProducts = 1 << 20;  // what is worth a thread
constexpr float kTiny = 1e-38f;              // what a block of zeros is divided by

// How long threads stay awake afterwards: a product of few rows is soon followed by another; unpacked weights go into
// PyTorch's product, whose own threads want the processors at once.
constexpr int kSpins = decoder::Pool::kIdleSpins, kAsleep = 0;

// work(first, last) over [0, count) in as many even pieces as there are threads.
template <class Work>
void in_pieces(std::size_t count, std::size_t multiple, std::size_t threads, int spins, const Work& work) {
  const std::size_t pieces = (count + multiple - 1) / multiple;
  threads = std::max<std::size_t>(1, std::min(threads, pieces));
  if (threads == 1) return work(std::size_t{0}, count);
  std::size_t each = pieces;
  decoder::Pool::shared().run(
      threads, [&](std::size_t have) { each = (pieces + have - 1) / have; },
      [&](std::size_t thread) {
        const std::size_t first = std::min(count, thread * each * multiple);
        const std::size_t last = std::min(count, (thread + 1) * each * multiple);
        if (first < last) work(first, last);
      },
      spins);
}

std::size_t worth(std::size_t work, std::size_t least, std::size_t threads) {
  return std::min(threads, std::max<std::size_t>(1, work / least));
}

// How many midpoints between neighbouring values lie below x.
std::uint8_t nearest(float x) {
  std::uint8_t code = 0;
  for (std::size_t i = 0; i + 1 < kNf4.size(); ++i) code += (kNf4[i] + kNf4[i + 1]) / 2 < x;
  return code;
}

void pack_block(const float* values, std::size_t size, std::uint8_t* codes, float* largest) {
  float most = 0;
  for (std::size_t i = 0; i < size; ++i) most = std::max(most, std::fabs(values[i]));
  // As bitsandbytes: a whole block is multiplied by the inverse, a last one that is not whole is divided.
  const bool whole = size == kNf4Block;
  const float bounded = std::max(most, kTiny), inverse = 1.0f / bounded;
  *largest = whole ? most : bounded;
  std::uint8_t found[kNf4Block];
  for (std::size_t i = 0; i < size; ++i)
    found[i] = nearest(std::clamp(whole ? values[i] * inverse : values[i] / bounded, -1.0f, 1.0f));
  if (size % 2) found[size] = nearest(0.0f);
  for (std::size_t i = 0; i < (size + 1) / 2; ++i)
    codes[i] = static_cast<std::uint8_t>(found[2 * i] << 4 | found[2 * i + 1]);
}

}  // namespace

void pack(const float* values, std::size_t count, std::uint8_t* codes, float* largest, std::size_t threads) {
  threads = worth(count, kLeastWeights, threads);
  in_pieces(count, kNf4Block, threads, kAsleep, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; i += kNf4Block)
      pack_block(values + i, std::min(kNf4Block, last - i), codes + i / 2, largest + i / kNf4Block);
  });
}

void unpack(const std::uint8_t* codes, const Scales& scales, std::size_t count, float* out, std::size_t threads) {
  constexpr std::size_t together = 256;  // blocks whose scales are made at a time
  const simd::Nf4Kernel kernel = simd::nf4_kernel(simd::level());
  threads = worth(count, kLeastWeights, threads);
  in_pieces(count, together * kNf4Block, threads, kAsleep, [&](std::size_t first, std::size_t last) {
    float some[together];
    for (std::size_t i = first; i < last; i += together * kNf4Block) {
      const std::size_t size = std::min(together * kNf4Block, last - i), whole = size / kNf4Block;
      for (std::size_t b = 0; b < (size + kNf4Block - 1) / kNf4Block; ++b) some[b] = scales.at(i / kNf4Block + b);
      kernel.unpack(codes + i / 2, some, whole, out + i);
      for (std::size_t j = i + whole * kNf4Block; j < i + size; ++j) {
        const std::uint8_t byte = codes[j / 2];
        out[j] = kNf4[j % 2 ? byte & 15 : byte >> 4] * some[whole];
      }
    }
  });
}

void multiply(const float* x, std::size_t rows, const std::uint8_t* codes, const Scales& scales, std::size_t outputs,
              std::size_t columns, float* out, std::size_t threads) {
  const std::size_t blocks = columns / kNf4Block;
  std::vector<float> grouped(rows * columns);
  for (std::size_t i = 0; i < rows * columns; i += kNf4Group)
    for (std::size_t j = 0; j < kNf4Group / 2; ++j) {
      grouped[i + j] = x[i + 2 * j];
      grouped[i + kNf4Group / 2 + j] = x[i + 2 * j + 1];
    }
  const simd::Nf4Kernel kernel = simd::nf4_kernel(simd::level());
  constexpr std::size_t together = 8;  // outputs whose weights stay in the first cache while the rows go by
  threads = worth(outputs * columns * rows, kLeastProducts, threads);
  in_pieces(outputs, together, threads, kSpins, [&](std::size_t first, std::size_t last) {
    std::vector<float> some(together * blocks);
    for (std::size_t o = first; o < last; o += together) {
      const std::size_t width = std::min(together, last - o);
      for (std::size_t b = 0; b < width * blocks; ++b) some[b] = scales.at(o * blocks + b);
      for (std::size_t r = 0; r < rows; r += kNf4Rows)
        kernel.multiply(grouped.data() + r * columns, std::min(kNf4Rows, rows - r), codes + o * columns / 2,
                        some.data(), blocks, width, out + r * outputs + o, outputs);
    }
  });
}

}  // namespace seedbed::quantization

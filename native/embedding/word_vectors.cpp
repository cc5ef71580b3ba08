#include "embedding/word_vectors.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "index/lanes.hpp"
#include "index/parallel.hpp"
#include "index/random.hpp"
#include "simd/level.hpp"

namespace seedbed::embedding {
namespace {

using index::Lanes;
using index::lanes_at;
using index::total;
using simd::Level;

constexpr std::size_t kWidth = sizeof(Lanes) / sizeof(float), kTogether = 4, kMostTargets = 32;
constexpr std::size_t kLongestText = 10'000;  // words that are looked at together, as in word2vec.c

// Steps of a stream that begins where the counter says: xorshift64* (Marsaglia 2003; Vigna 2016).
class Stream {
 public:
  Stream(std::uint64_t seed, std::uint64_t number) : state_(index::random_bits(seed, number, 0) | 1) {}
  std::uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 32);
  }
  std::size_t below(std::size_t bound) { return (std::uint64_t{next()} * bound) >> 32; }
  float unit() { return static_cast<float>(next() >> 8) * 0x1p-24f; }

 private:
  std::uint64_t state_;
};

class Sigmoid {
 public:
  Sigmoid() {
    for (std::size_t i = 0; i < kSteps; ++i)
      values_[i] = static_cast<float>(1.0 / (1.0 + std::exp(-((static_cast<double>(i) + 0.5) / kSteps * 2 - 1) * kReach)));
  }
  float operator()(float x) const {
    const float place = (x + kReach) * (kSteps / (2 * kReach));
    if (!(place > 0)) return 0;
    return place >= kSteps ? 1 : values_[static_cast<std::size_t>(place)];
  }

 private:
  static constexpr std::size_t kSteps = 4096;
  static constexpr float kReach = 8;
  std::array<float, kSteps> values_;
};

[[gnu::always_inline]] inline const Lanes& at(const float* row, std::size_t chunk) { return lanes_at(row + chunk * kWidth); }
[[gnu::always_inline]] inline Lanes& at(float* row, std::size_t chunk) { return lanes_at(row + chunk * kWidth); }

// Some input rows against some target rows, of which the first is the right one and the others are noise: all products,
// then all gradients, in two small matrix products (Ji et al. 2016: neighbours of a word share its negatives).
struct Step {
  float* const* inputs;
  std::size_t input_count;
  float* const* targets;
  std::size_t target_count;
  std::size_t chunks;
  float rate;
  float* target_changes;  // (kMostTargets, padded dim), scratch
  float* input_changes;   // where given, (padded dim): the sum of what the inputs would change by, which then do not
};

template <std::size_t kInputs, std::size_t kTargets>
[[gnu::always_inline]] inline void products(const float* const* inputs, float* const* targets, std::size_t chunks,
                                            float* out) {
  Lanes sums[kInputs][kTargets] = {};
  for (std::size_t c = 0; c < chunks; ++c)
    for (std::size_t t = 0; t < kTargets; ++t) {
      const Lanes target = at(targets[t], c);
      for (std::size_t i = 0; i < kInputs; ++i) sums[i][t] += at(inputs[i], c) * target;
    }
  for (std::size_t i = 0; i < kInputs; ++i)
    for (std::size_t t = 0; t < kTargets; ++t) out[i * kMostTargets + t] = total(sums[i][t]);
}

[[gnu::always_inline]] inline void step(const Step& s, const Sigmoid& sigmoid) {
  float errors[kTogether * kMostTargets];
  std::memset(s.target_changes, 0, s.target_count * s.chunks * sizeof(Lanes));
  for (std::size_t first = 0; first < s.input_count; first += kTogether) {
    const std::size_t inputs = std::min(kTogether, s.input_count - first);
    float* const* rows = s.inputs + first;
    std::size_t t = 0;
    if (inputs == kTogether)
      for (; t + 4 <= s.target_count; t += 4) products<kTogether, 4>(rows, s.targets + t, s.chunks, errors + t);
    for (; t < s.target_count; ++t)
      for (std::size_t i = 0; i < inputs; ++i)
        products<1, 1>(rows + i, s.targets + t, s.chunks, errors + i * kMostTargets + t);
    for (std::size_t i = 0; i < inputs; ++i)
      for (std::size_t k = 0; k < s.target_count; ++k) {
        float& error = errors[i * kMostTargets + k];
        error = ((k == 0 ? 1.0f : 0.0f) - sigmoid(error)) * s.rate;
      }
    for (std::size_t c = 0; c < s.chunks; ++c) {
      Lanes changes[kTogether] = {};
      for (std::size_t k = 0; k < s.target_count; ++k) {
        const Lanes target = at(s.targets[k], c);
        Lanes change = at(s.target_changes, k * s.chunks + c);
        for (std::size_t i = 0; i < inputs; ++i) {
          const float error = errors[i * kMostTargets + k];
          changes[i] += error * target;
          change += error * at(rows[i], c);
        }
        at(s.target_changes, k * s.chunks + c) = change;
      }
      for (std::size_t i = 0; i < inputs; ++i) {
        if (s.input_changes)
          at(s.input_changes, c) += changes[i];
        else
          at(rows[i], c) += changes[i];
      }
    }
  }
  for (std::size_t k = 0; k < s.target_count; ++k)
    for (std::size_t c = 0; c < s.chunks; ++c) at(s.targets[k], c) += at(s.target_changes, k * s.chunks + c);
}

void step_plain(const Step& s, const Sigmoid& sigmoid) { step(s, sigmoid); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void step_avx2(const Step& s, const Sigmoid& sigmoid) { step(s, sigmoid); }
__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))) void step_avx512(const Step& s,
                                                                                       const Sigmoid& sigmoid) {
  step(s, sigmoid);
}
#endif

auto chosen_step() {
#if defined(__x86_64__)
  if (simd::level() >= Level::Avx512) return step_avx512;
  if (simd::level() >= Level::Avx2) return step_avx2;
#endif
  return step_plain;
}

}  // namespace

void train_predictions(const Texts& texts, const Prediction& how, float* inputs, float* outputs, std::size_t dim,
                       std::size_t threads) {
  static const Sigmoid sigmoid;
  const std::size_t stride = padded(dim), chunks = stride / kWidth;
  const auto run = chosen_step();
  const double words = std::max<double>(1.0, static_cast<double>(texts.words.size()));
  struct Scratch {
    std::vector<std::uint32_t> kept;
    std::vector<float*> neighbours;
    std::vector<float> changes, mean, back;
  };
  std::vector<Scratch> scratches(std::max<std::size_t>(1, threads));
  for (Scratch& one : scratches) {
    one.changes.resize(kMostTargets * stride);
    one.mean.resize(stride);
    one.back.resize(stride);
  }
  const auto train_text = [&](std::size_t worker, std::size_t begin, std::size_t end, std::uint64_t number) {
    Scratch& scratch = scratches[worker];
    Stream stream(how.seed, number);
    const float rate = static_cast<float>(how.rate + (how.last_rate - how.rate) * (static_cast<double>(begin) / words));
    scratch.kept.clear();
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t word = texts.words[i];
      if (how.keep[word] >= 1 || stream.unit() < how.keep[word]) scratch.kept.push_back(word);
    }
    const std::vector<std::uint32_t>& kept = scratch.kept;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const std::size_t reach = 1 + stream.below(how.window);
      const std::size_t from = i - std::min(i, reach), to = std::min(kept.size(), i + reach + 1);
      scratch.neighbours.clear();
      for (std::size_t j = from; j < to; ++j)
        if (j != i) scratch.neighbours.push_back(inputs + kept[j] * stride);
      if (scratch.neighbours.empty()) continue;
      float* targets[kMostTargets] = {outputs + kept[i] * stride};
      std::size_t count = 1;
      for (std::size_t k = 0; k < how.negatives; ++k) {
        const std::uint32_t word = how.noise[stream.below(how.noise.size())];
        if (word != kept[i]) targets[count++] = outputs + word * stride;
      }
      if (!how.cbow) {
        run({scratch.neighbours.data(), scratch.neighbours.size(), targets, count, chunks, rate, scratch.changes.data(),
             nullptr}, sigmoid);
        continue;
      }
      const float share = 1.0f / static_cast<float>(scratch.neighbours.size());
      for (std::size_t d = 0; d < stride; ++d) {
        float sum = 0;
        for (const float* row : scratch.neighbours) sum += row[d];
        scratch.mean[d] = sum * share;
        scratch.back[d] = 0;
      }
      float* mean = scratch.mean.data();
      run({&mean, 1, targets, count, chunks, rate, scratch.changes.data(), scratch.back.data()}, sigmoid);
      for (float* row : scratch.neighbours)
        for (std::size_t d = 0; d < stride; ++d) row[d] += scratch.back[d];
    }
  };
  index::parallel_for(texts.offsets.size() - 1, threads, [&](std::size_t worker, std::size_t text) {
    const auto begin = static_cast<std::size_t>(texts.offsets[text]);
    const auto end = static_cast<std::size_t>(texts.offsets[text + 1]);
    for (std::size_t part = begin; part < end; part += kLongestText)
      train_text(worker, part, std::min(end, part + kLongestText), part);
  });
}

double train_counts(const Counts& counts, double most, double power, double rate, std::uint64_t seed, float* words,
                    float* contexts, float* word_squares, float* context_squares, std::size_t dim, std::size_t threads) {
  const std::size_t stride = padded(dim + 1), size = counts.counts.size();
  std::vector<std::uint32_t> order(size);
  std::iota(order.begin(), order.end(), 0u);
  Stream shuffle(seed, 0);
  for (std::size_t i = size; i > 1; --i) std::swap(order[i - 1], order[shuffle.below(i)]);
  constexpr std::size_t kBlock = 4096;
  const std::size_t blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> errors(blocks, 0.0);
  const float step = static_cast<float>(rate);
  index::parallel_for(blocks, threads, [&](std::size_t, std::size_t block) {
    for (std::size_t i = block * kBlock; i < std::min(size, (block + 1) * kBlock); ++i) {
      const std::size_t row = counts.words[order[i]] * stride, column = counts.contexts[order[i]] * stride;
      const float count = counts.counts[order[i]];
      float *w = words + row, *c = contexts + column, *ws = word_squares + row, *cs = context_squares + column;
      float apart = w[dim] + c[dim] - std::log(count);
      for (std::size_t d = 0; d < dim; ++d) apart += w[d] * c[d];
      const float weight = count < most ? static_cast<float>(std::pow(count / most, power)) : 1.0f;
      errors[block] += 0.5 * weight * static_cast<double>(apart) * apart;
      const float error = weight * apart;
      for (std::size_t d = 0; d < dim; ++d) {
        const float to_word = error * c[d], to_context = error * w[d];
        ws[d] += to_word * to_word;
        cs[d] += to_context * to_context;
        w[d] -= step * to_word / std::sqrt(ws[d]);
        c[d] -= step * to_context / std::sqrt(cs[d]);
      }
      ws[dim] += error * error;
      cs[dim] += error * error;
      w[dim] -= step * error / std::sqrt(ws[dim]);
      c[dim] -= step * error / std::sqrt(cs[dim]);
    }
  });
  return size ? std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(size) : 0.0;
}

}  // namespace seedbed::embedding

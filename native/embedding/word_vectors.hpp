// Training word vectors: skip-gram and CBOW with negative sampling (Mikolov et al. 2013), GloVe (Pennington et al. 2014).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace seedbed::embedding {

// Floats that a row of a matrix takes, so that rows are whole lines of the cache; what lies behind `dim` is zero.
inline std::size_t padded(std::size_t dim) { return (dim + 15) / 16 * 16; }

struct Texts {
  std::span<const std::uint32_t> words;    // all texts, one after another
  std::span<const std::int64_t> offsets;   // text i is words[offsets[i], offsets[i + 1])
};

struct Prediction {
  bool cbow;                               // predict a word by the mean of its neighbours, not each by the word
  std::size_t window, negatives;
  std::span<const float> keep;             // of each word, the chance that an occurrence counts
  std::span<const std::uint32_t> noise;    // words, as often as they are to be drawn as negatives
  double rate, last_rate;                  // of learning, at the first and behind the last of the words
  std::uint64_t seed;
};

// One pass over the texts that changes `inputs` and `outputs` (words, padded(dim)) in place. Threads write into the same
// rows without asking each other (Niu et al. 2011); with one, the same seed gives the same bytes.
void train_predictions(const Texts& texts, const Prediction& how, float* inputs, float* outputs, std::size_t dim,
                       std::size_t threads);

struct Counts {
  std::span<const std::uint32_t> words, contexts;
  std::span<const float> counts;
};

// One pass of AdaGrad over the counts in an order drawn from the seed. A row of `words` and `contexts` holds a vector and
// its bias at place dim; rows of the other two, the sums of squared gradients. Returns the mean weighted squared error.
double train_counts(const Counts& counts, double most, double power, double rate, std::uint64_t seed, float* words,
                    float* contexts, float* word_squares, float* context_squares, std::size_t dim, std::size_t threads);

}  // namespace seedbed::embedding

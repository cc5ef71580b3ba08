#include "tokenizer/word_counts.hpp"

#include <stdexcept>

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {

WordCounts::WordCounts() : slots_(1024) {}

void WordCounts::add(std::string_view word, std::uint64_t count) {
  if (2 * (words_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = std::hash<std::string_view>{}(word);
  for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i] == 0) {
      words_.push_back({bytes_.size(), hash, count, static_cast<std::uint32_t>(word.size())});
      bytes_.append(word);
      slots_[i] = static_cast<std::uint32_t>(words_.size());
      return;
    }
    Word& found = words_[slots_[i] - 1];
    if (found.hash == hash && this->word(slots_[i] - 1) == word) {
      found.count += count;
      return;
    }
  }
}

void WordCounts::merge(const WordCounts& other) {
  for (std::size_t i = 0; i < other.size(); ++i) add(other.word(i), other.count(i));
}

void WordCounts::grow() {
  if (slots_.size() >= std::size_t{1} << 32) throw std::length_error("more than 2^31 different words");
  slots_.assign(slots_.size() * 2, 0);
  for (std::size_t w = 0; w < words_.size(); ++w) {
    std::size_t i = words_[w].hash & (slots_.size() - 1);
    while (slots_[i] != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = static_cast<std::uint32_t>(w + 1);
  }
}

WordCounter::WordCounter(std::shared_ptr<const WordSource> source, unsigned threads)
    : source_(std::move(source)), parts_(threads ? threads : 1) {}

void WordCounter::count(std::string_view text, Part& part) const {
  source_->each(text, [&part](std::string_view word) {
    if (word.size() <= kLongestWord)
      part.counts.add(word);
    else
      ++part.skipped;
  });
}

void WordCounter::add(const std::vector<std::string_view>& texts) {
  parallel_blocks(texts, static_cast<unsigned>(parts_.size()), [&](unsigned thread, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) count(texts[i], parts_[thread]);
  });
}

WordCounts WordCounter::take() {
  WordCounts all = std::move(parts_[0].counts);
  parts_[0].counts = WordCounts();
  for (std::size_t i = 1; i < parts_.size(); ++i) {
    all.merge(parts_[i].counts);
    parts_[i].counts = WordCounts();
  }
  return all;
}

std::uint64_t WordCounter::skipped() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts_) sum += part.skipped;
  return sum;
}

}  // namespace seedbed::tokenizer

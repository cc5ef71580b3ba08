#include "tokenizer/word_counter.hpp"

#include <iterator>

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {
namespace {

WordCounts drained(WordTable& table, WordWriter writer) {
  table.drain([&](std::string_view word, std::uint64_t count) { writer.add(word, count); });
  return writer.finish();
}

}  // namespace

WordCounter::WordCounter(std::shared_ptr<const WordSource> source, unsigned threads, std::uint64_t memory_bytes,
                         std::string directory)
    : source_(std::move(source)),
      parts_(threads ? threads : 1),
      memory_bytes_(memory_bytes),
      directory_(std::move(directory)) {}

void WordCounter::add(const std::vector<std::string_view>& texts) {
  const std::uint64_t share = memory_bytes_ / parts_.size();
  parallel_blocks(texts, static_cast<unsigned>(parts_.size()), [&](unsigned thread, std::size_t from, std::size_t to) {
    Part& part = parts_[thread];
    const auto count = [&](std::string_view word) {
      if (word.size() > kLongestWord)
        ++part.skipped;
      else if (part.table.add(word) && part.table.memory() > share)
        spill(part);
    };
    for (std::size_t i = from; i < to; ++i) source_->each(texts[i], count);
  });
}

void WordCounter::spill(Part& part) const {
  constexpr std::size_t kMostFiles = 64;  // open at a time
  part.runs.push_back(drained(part.table, WordWriter(directory_)));
  ++part.spilled;
  if (part.runs.size() == kMostFiles) part.runs = {merge_counts(part.runs, 1, 0, directory_)};
}

WordCounts WordCounter::take() {
  parallel_for(parts_.size(), static_cast<unsigned>(parts_.size()), [&](unsigned, std::size_t i) {
    if (parts_[i].table.size()) parts_[i].runs.push_back(drained(parts_[i].table, WordWriter()));
  });
  std::vector<WordCounts> runs;
  for (Part& part : parts_) {
    runs.insert(runs.end(), std::make_move_iterator(part.runs.begin()), std::make_move_iterator(part.runs.end()));
    part.runs.clear();
  }
  return runs.size() == 1 ? std::move(runs[0]) : merge_counts(runs, 1, memory_bytes_ / 2, directory_);
}

std::uint64_t WordCounter::skipped() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts_) sum += part.skipped;
  return sum;
}

std::uint64_t WordCounter::spilled() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts_) sum += part.spilled;
  return sum;
}

}  // namespace seedbed::tokenizer

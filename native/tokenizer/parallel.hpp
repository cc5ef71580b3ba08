// Texts shared out to threads in blocks of neighbours, about equal in bytes.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tokenizer/text.hpp"

namespace seedbed::tokenizer {

// [from, to) of each block: as many texts as make up kBlockBytes.
inline std::size_t bytes_of(std::string_view text) { return text.size(); }
inline std::size_t bytes_of(const Text& text) { return text.most_bytes(); }

template <class AnyText>
std::vector<std::pair<std::size_t, std::size_t>> blocks_of(const std::vector<AnyText>& texts) {
  constexpr std::size_t kBlockBytes = std::size_t{1} << 18;
  std::vector<std::pair<std::size_t, std::size_t>> blocks;
  std::size_t from = 0, bytes = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    bytes += bytes_of(texts[i]) + 8;
    if (bytes >= kBlockBytes || i + 1 == texts.size()) {
      blocks.emplace_back(from, i + 1);
      from = i + 1;
      bytes = 0;
    }
  }
  return blocks;
}

// How many threads `blocks` pieces of work keep busy.
inline unsigned threads_for(std::size_t blocks, unsigned threads) {
  return static_cast<unsigned>(std::min<std::size_t>(std::max(threads, 1u), std::max<std::size_t>(blocks, 1)));
}

// Calls work(thread, block) for every block number below `blocks`; rethrows the first exception.
template <class Work>
void parallel_for(std::size_t blocks, unsigned threads, Work&& work) {
  threads = threads_for(blocks, threads);
  std::atomic<std::size_t> next{0};
  std::vector<std::exception_ptr> errors(threads);
  const auto run = [&](unsigned thread) {
    try {
      for (std::size_t block; (block = next.fetch_add(1)) < blocks;) work(thread, block);
    } catch (...) {
      errors[thread] = std::current_exception();
      next.store(blocks);
    }
  };
  std::vector<std::thread> others;
  for (unsigned thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

// Calls work(thread, from, to) for every block of texts.
template <class Work>
void parallel_blocks(const std::vector<std::string_view>& texts, unsigned threads, Work&& work) {
  const auto blocks = blocks_of(texts);
  parallel_for(blocks.size(), threads,
               [&](unsigned thread, std::size_t block) { work(thread, blocks[block].first, blocks[block].second); });
}

}  // namespace seedbed::tokenizer

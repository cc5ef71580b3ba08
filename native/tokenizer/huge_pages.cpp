#include "tokenizer/huge_pages.hpp"

#include <mutex>
#include <vector>

namespace seedbed::tokenizer {
namespace {

constexpr std::size_t kMostKept = std::size_t{1} << 26;

struct Block {
  void* memory;
  std::size_t bytes;
};

struct Kept {
  std::mutex mutex;
  std::vector<Block> blocks;
  std::size_t bytes = 0;
};

Kept& kept() {
  static Kept& all = *new Kept;  // never destroyed: results may outlive all that is
  return all;
}

}  // namespace

Pages::Pages(std::size_t bytes) : bytes_(bytes) {
  if (bytes >= kHugePage) {
    bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    const std::lock_guard lock(kept().mutex);
    for (Block& block : kept().blocks) {
      if (block.bytes < bytes_ || block.bytes > 2 * bytes_) continue;
      memory_ = block.memory;
      bytes_ = block.bytes;
      kept().bytes -= block.bytes;
      block = kept().blocks.back();
      kept().blocks.pop_back();
      return;
    }
  }
  memory_ = allocate_pages(bytes_);
}

Pages::~Pages() {
  if (!memory_) return;
  if (bytes_ >= kHugePage) {
    const std::lock_guard lock(kept().mutex);
    if (kept().bytes + bytes_ <= kMostKept) {
      kept().blocks.push_back({memory_, bytes_});
      kept().bytes += bytes_;
      return;
    }
  }
  free_pages(memory_, bytes_);
}

}  // namespace seedbed::tokenizer

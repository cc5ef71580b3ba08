// Looking up many words at once: first the keys of all, so that their buckets come from memory meanwhile, then the ids.
//
// Each step is a short loop without branches that nothing could guess, in versions for what the processor can do.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tokenizer/pieces.hpp"
#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

struct WordBatch {
  Pieces words;
  alignas(64) WordCache::Key keys[Pieces::kMost];
  std::size_t hashes[Pieces::kMost];
};

// Room for what copying `count` words may write.
constexpr std::size_t room_for_known(std::size_t count) { return WordCache::kShortIds * count + 1; }

struct KnownWords {
  // Sets the keys and hashes of the words of a batch and asks memory for their buckets. Up to `readable_end` bytes may
  // be read, whatever they hold.
  void (*find_keys)(WordBatch& batch, WordCache& cache, const char* readable_end);
  // Copies the ids of the words from number `i` on to `to`, which moves on, up to the first word that is not in its
  // home or has more than kShortIds ids: returns its number.
  std::size_t (*copy)(const WordBatch& batch, std::size_t i, const WordCache& cache, std::uint32_t*& to);

  static KnownWords best();  // by the instruction set in use
};

}  // namespace seedbed::tokenizer

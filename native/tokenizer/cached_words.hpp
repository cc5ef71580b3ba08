// The loop that all algorithms share whose words do not depend on each other: each word is looked up in a cache, and
// encoded if it is not there.
//
// Words are taken some ahead of being looked up, so that their buckets come from memory meanwhile.
#pragma once
#include <span>

#include "tokenizer/id_buffer.hpp"
#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

// encode(word, ids) appends the ids of a word, which must depend on the word alone.
template <class Encode>
class CachedWords {
 public:
  // Up to `readable_end` bytes may be read, whatever they hold.
  CachedWords(WordCache& cache, const char* readable_end, IdBuffer& ids, Encode encode)
      : cache_(cache), readable_end_(readable_end), ids_(ids), encode_(std::move(encode)) {}

  void take(const char* from, const char* to) {  // a word that is not empty
    Ahead& ahead = next_[count_++];
    ahead.word = {from, static_cast<std::size_t>(to - from)};
    if (ahead.word.size() <= WordCache::kShortBytes) {
      ahead.key = WordCache::key_of(reinterpret_cast<const std::uint8_t*>(from), ahead.word.size(),
                                    static_cast<std::size_t>(readable_end_ - from));
      ahead.hash = WordCache::hash_of(ahead.key);
      cache_.prefetch(ahead.hash);
    } else if (ahead.word.size() <= ManyIds::kMostBytes) {
      ahead.hash = ManyIds::hash_of(ahead.word);
      cache_.many_ids.prefetch(ahead.hash);
    }
    if (count_ == kAhead) look_up();
  }

  void look_up() {  // all that were taken
    std::uint32_t* to = ids_.room(kRoom);
    for (const Ahead& ahead : std::span(next_, count_)) {
      const bool is_short = ahead.word.size() <= WordCache::kShortBytes;
      WordCache::ShortSlot* slot = is_short ? cache_.find(ahead.hash, ahead.key) : nullptr;
      if (slot && slot->count != WordCache::kMany) {
        std::memcpy(to, slot->ids, sizeof slot->ids + sizeof slot->count);  // cheaper than asking how many
        to += slot->count;
        continue;
      }
      ids_.commit(static_cast<std::size_t>(to - ids_.end()));
      unlikely(ahead, is_short, slot);
      to = ids_.room(kRoom);
    }
    ids_.commit(static_cast<std::size_t>(to - ids_.end()));
    count_ = 0;
  }

 private:
  struct Ahead {
    std::string_view word;
    std::uint32_t hash;
    WordCache::Key key;
  };

  // A word that is new, or long, or becomes many ids.
  [[gnu::noinline]] void unlikely(const Ahead& ahead, bool is_short, WordCache::ShortSlot* slot) {
    const bool in_many = !is_short && ahead.word.size() <= ManyIds::kMostBytes;
    std::span<const std::uint32_t> seen;
    if (slot) seen = cache_.many(*slot);
    if (in_many) seen = cache_.many_ids.find(ahead.word, ahead.hash);
    if (!seen.empty()) {
      std::copy(seen.begin(), seen.end(), ids_.room(seen.size()));
      return ids_.commit(seen.size());
    }
    const std::size_t before = ids_.size();
    encode_(ahead.word, ids_);
    const std::span made(ids_.data() + before, ids_.size() - before);
    if (slot) cache_.refill(*slot, made);
    else if (is_short) cache_.fill(ahead.hash, ahead.key, made);
    else if (in_many && !made.empty()) cache_.many_ids.add(ahead.word, ahead.hash, made);
  }

  WordCache& cache_;
  const char* readable_end_;
  IdBuffer& ids_;
  Encode encode_;
  static constexpr std::size_t kAhead = 64, kRoom = WordCache::kShortIds * kAhead + 1;
  Ahead next_[kAhead];
  std::size_t count_ = 0;
};

}  // namespace seedbed::tokenizer

// The loop that all algorithms share whose words do not depend on each other: each word is looked up in a cache, and
// encoded if it is not there. Words are taken many at a time, so that their buckets come from memory meanwhile.
#pragma once
#include <span>

#include "tokenizer/id_buffer.hpp"
#include "tokenizer/known_words.hpp"

namespace seedbed::tokenizer {

// encode(word, ids) appends the ids of a word, which must depend on the word alone.
template <class Encode>
class CachedWords {
 public:
  // Up to `readable_end` bytes may be read, whatever they hold.
  CachedWords(WordCache& cache, const char* readable_end, IdBuffer& ids, Encode encode)
      : cache_(cache), readable_end_(readable_end), ids_(ids), encode_(std::move(encode)) {}

  void take(const char* from, const char* to) {  // a word that is not empty
    if (!words().count) words().restart(from);
    if (!words().reaches(to)) [[unlikely]] {
      look_up();
      words().restart(from);
      if (!words().reaches(to)) return encode_({from, static_cast<std::size_t>(to - from)}, ids_);
    }
    words().put(from, to);
    if (words().count == Pieces::kMost) look_up();
  }

  Pieces& words() { return batch_.words; }  // to fill it otherwise than by take

  void look_up() {  // all words that were taken
    known_.find_keys(batch_, cache_, readable_end_);
    const std::size_t count = words().count;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t* to = ids_.room(room_for_known(count));
      i = known_.copy(batch_, i, cache_, to);
      ids_.commit(static_cast<std::size_t>(to - ids_.end()));
      if (i < count) look_further(i);
    }
    words().count = 0;
  }

 private:
  // A word that is new, or long, or becomes many ids, or has no place in its home.
  [[gnu::noinline]] void look_further(std::size_t i) {
    const std::string_view word = batch_.words[i];
    const std::size_t hash = batch_.hashes[i];
    const WordCache::Key key = batch_.keys[i];
    const bool is_short = word.size() <= WordCache::kShortBytes, is_long = word.size() > ManyIds::kMostBytes;
    WordCache::ShortSlot* slot = is_short ? cache_.find(hash, key) : nullptr;
    std::span<const std::uint32_t> seen;
    if (slot) seen = cache_.ids_of(*slot);
    else if (!is_short && !is_long) seen = cache_.many_ids.find(word, static_cast<std::uint32_t>(hash));
    if (!seen.empty()) {
      std::copy(seen.begin(), seen.end(), ids_.room(seen.size()));
      return ids_.commit(seen.size());
    }
    const std::size_t before = ids_.size();
    encode_(word, ids_);
    const std::span made(ids_.data() + before, ids_.size() - before);
    if (slot) cache_.refill(*slot, made);
    else if (is_short) cache_.fill(hash, key, made);
    else if (!is_long && !made.empty()) cache_.many_ids.add(word, static_cast<std::uint32_t>(hash), made);
  }

  WordCache& cache_;
  const char* readable_end_;
  IdBuffer& ids_;
  Encode encode_;
  WordBatch batch_;
  KnownWords known_ = KnownWords::best();
};

}  // namespace seedbed::tokenizer

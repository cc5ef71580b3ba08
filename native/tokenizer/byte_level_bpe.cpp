#include "tokenizer/byte_level_bpe.hpp"

#include <algorithm>
#include <span>

#include "tokenizer/word_cache.hpp"

namespace seedbed::tokenizer {

struct ByteLevelBpe::Words final : Algorithm::State {
  void shrink() override {
    constexpr std::size_t kMostScratch = std::size_t{1} << 16;
    if (scratch.symbols.capacity() > kMostScratch) scratch = MergeScratch();
  }
  WordCache cache;
  MergeScratch scratch;
};

std::unique_ptr<Algorithm::State> ByteLevelBpe::new_state() const { return std::make_unique<Words>(); }

void ByteLevelBpe::encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const {
  const auto* p = reinterpret_cast<const std::uint8_t*>(section.text.data());
  const std::size_t before = ids.size();
  encode_words(p, p + section.text.size(), reinterpret_cast<const std::uint8_t*>(section.readable_end),
               static_cast<Words&>(state), ids);
  if (!spans) return;
  std::size_t from = 0;  // nothing is lost between the words, so the tokens lie end to end
  for (std::size_t i = before; i < ids.size(); ++i) {
    const std::size_t to = from + model_.token(ids.data()[i]).size();
    spans->push_back({from, to});
    from = to;
  }
}

// Words are cut a few ahead of being looked up, so that their buckets come from memory meanwhile.
void ByteLevelBpe::encode_words(const std::uint8_t* p, const std::uint8_t* end, const std::uint8_t* readable_end,
                               Words& words, IdBuffer& out) const {
  struct Ahead {
    std::string_view word;
    WordCache::Key key;
    WordCache::Bucket* bucket;  // null: too long for one
  };
  Ahead next[16];
  while (p < end) {
    std::size_t count = 0;
    for (; count < std::size(next) && p < end; ++count) {
      const std::uint8_t* after = cut_(p, end);
      const auto length = static_cast<std::size_t>(after - p);
      Ahead& ahead = next[count];
      ahead.word = {reinterpret_cast<const char*>(p), length};
      ahead.bucket = nullptr;
      if (length <= WordCache::kShortBytes) {
        ahead.key = WordCache::key_of(p, length, static_cast<std::size_t>(readable_end - p));
        ahead.bucket = words.cache.bucket(ahead.key);
        WordCache::prefetch(ahead.bucket);
      }
      p = after;
    }
    for (const Ahead& ahead : std::span(next, count)) {
      if (!ahead.bucket) {
        encode_new_word(ahead.word, words, out);
        continue;
      }
      if (const WordCache::ShortSlot* slot = WordCache::find(*ahead.bucket, ahead.key)) {
        std::copy_n(slot->ids, WordCache::kShortIds, out.room(WordCache::kShortIds));  // cheaper than asking how many
        out.commit(slot->count);
      } else {
        const std::size_t before = out.size();
        encode_new_word(ahead.word, words, out);
        WordCache::fill(*ahead.bucket, ahead.key, out.data() + before, out.size() - before);
      }
    }
  }
}

// A word that the table of short words does not hold: perhaps the one of long words does.
void ByteLevelBpe::encode_new_word(std::string_view word, Words& words, IdBuffer& out) const {
  std::uint32_t* room = out.room(word.size());
  if (word.size() > WordCache::LongSlot::kBytes) {
    out.commit(model_.encode(word, room, words.scratch));
    return;
  }
  const std::uint32_t hash = WordCache::hash_of(word);
  WordCache::LongSlot& slot = words.cache.long_slot(hash);
  if (WordCache::holds(slot, word, hash)) {
    std::copy_n(slot.ids, slot.count, room);
    out.commit(slot.count);
    return;
  }
  const std::size_t count = model_.encode(word, room, words.scratch);
  WordCache::fill(slot, word, hash, room, count);
  out.commit(count);
}

}  // namespace seedbed::tokenizer

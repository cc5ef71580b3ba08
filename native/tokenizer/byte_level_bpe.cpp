#include "tokenizer/byte_level_bpe.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace seedbed::tokenizer {

struct ByteLevelBpe::Words final : Algorithm::State {
  explicit Words(const WordCache& first_words) : cache(first_words) {}
  void shrink() override {
    constexpr std::size_t kMostScratch = std::size_t{1} << 16;
    if (scratch.symbols.capacity() > kMostScratch) scratch = MergeScratch();
  }
  WordCache cache;
  MergeScratch scratch;
};

ByteLevelBpe::ByteLevelBpe(BpeModel model, Pattern pattern) : model_(std::move(model)), cutter_(pattern) {
  MergeScratch scratch;
  std::uint32_t ids[WordCache::kShortBytes];
  for (std::uint32_t id = 0; id < model_.size(); ++id) {
    const std::string& token = model_.token(id);
    if (token.empty() || token.size() > WordCache::kShortBytes) continue;
    const std::size_t count = model_.encode(token, ids, scratch);
    if (count != 1) continue;  // no word becomes this token
    const auto key = WordCache::key_of(reinterpret_cast<const std::uint8_t*>(token.data()), token.size(), token.size());
    first_words_.fill(WordCache::hash_of(key), key, ids, count);
  }
}

std::unique_ptr<Algorithm::State> ByteLevelBpe::new_state() const { return std::make_unique<Words>(first_words_); }

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

// Words are cut some ahead of being looked up, so that their buckets come from memory meanwhile.
void ByteLevelBpe::encode_words(const std::uint8_t* p, const std::uint8_t* end, const std::uint8_t* readable_end,
                               Words& words, IdBuffer& out) const {
  struct Ahead {
    const std::uint8_t* word;
    std::size_t length;
    std::uint32_t hash;
    WordCache::Key key;
  };
  Ahead next[64];
  constexpr std::size_t kRoom = WordCache::kShortIds * std::size(next) + 1;
  std::size_t count = 0;
  const auto look_up = [&] {
    std::uint32_t* to = out.room(kRoom);
    for (const Ahead& ahead : std::span(next, count)) {
      const bool is_short = ahead.length <= WordCache::kShortBytes;
      const WordCache::ShortSlot* slot = is_short ? words.cache.find(ahead.hash, ahead.key) : nullptr;
      if (slot && slot->count != WordCache::kInLong) {
        std::memcpy(to, slot->ids, sizeof slot->ids + sizeof slot->count);  // cheaper than asking how many
        to += slot->count;
        continue;
      }
      out.commit(static_cast<std::size_t>(to - out.end()));
      const std::string_view word{reinterpret_cast<const char*>(ahead.word), ahead.length};
      if (is_short && !slot) {
        std::uint32_t* ids = out.room(word.size());
        const std::size_t made = model_.encode(word, ids, words.scratch);
        words.cache.fill(ahead.hash, ahead.key, ids, made);
        out.commit(made);
      } else {
        encode_long_word(word, words, out);
      }
      to = out.room(kRoom);
    }
    out.commit(static_cast<std::size_t>(to - out.end()));
    count = 0;
  };
  cutter_.each(p, end, [&](const std::uint8_t* from, const std::uint8_t* to) {
    Ahead& ahead = next[count++];
    ahead.word = from;
    ahead.length = static_cast<std::size_t>(to - from);
    if (ahead.length <= WordCache::kShortBytes) {
      ahead.key = WordCache::key_of(from, ahead.length, static_cast<std::size_t>(readable_end - from));
      ahead.hash = WordCache::hash_of(ahead.key);
      words.cache.prefetch(ahead.hash);
    }
    if (count == std::size(next)) look_up();
  });
  look_up();
}

// A word that is long, or becomes many ids.
void ByteLevelBpe::encode_long_word(std::string_view word, Words& words, IdBuffer& out) const {
  std::uint32_t* room = out.room(word.size());
  if (word.size() > LongWords::kMostBytes) {
    out.commit(model_.encode(word, room, words.scratch));
    return;
  }
  LongWords& seen = words.cache.long_words;
  const std::uint32_t hash = LongWords::hash_of(word);
  if (const auto ids = seen.find(word, hash); !ids.empty()) {
    std::copy(ids.begin(), ids.end(), room);
    out.commit(ids.size());
    return;
  }
  const std::size_t count = model_.encode(word, room, words.scratch);
  seen.add(word, hash, {room, count});
  out.commit(count);
}

}  // namespace seedbed::tokenizer

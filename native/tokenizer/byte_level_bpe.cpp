#include "tokenizer/byte_level_bpe.hpp"

#include "tokenizer/cached_words.hpp"

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
    first_words_.fill(WordCache::hash_of(key), key, {ids, count});
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

void ByteLevelBpe::encode_words(const std::uint8_t* p, const std::uint8_t* end, const std::uint8_t* readable_end,
                               Words& words, IdBuffer& out) const {
  CachedWords cached(words.cache, reinterpret_cast<const char*>(readable_end), out,
                     [&](std::string_view word, IdBuffer& ids) {
                       ids.commit(model_.encode(word, ids.room(word.size()), words.scratch));
                     });
  cutter_.each(p, end, [&](const std::uint8_t* from, const std::uint8_t* to) {
    cached.take(reinterpret_cast<const char*>(from), reinterpret_cast<const char*>(to));
  });
  cached.look_up();
}

}  // namespace seedbed::tokenizer

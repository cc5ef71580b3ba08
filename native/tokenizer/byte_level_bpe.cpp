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
    const auto key = WordCache::key_of(token.data(), token.size(), token.size());
    first_words_.fill(WordCache::hash_of(key), key, {ids, count});
  }
}

std::unique_ptr<Algorithm::State> ByteLevelBpe::new_state() const { return std::make_unique<Words>(first_words_); }

void ByteLevelBpe::encode(const Section& section, State& state, IdBuffer& ids, std::vector<Span>* spans) const {
  const std::size_t before = ids.size();
  Words& words = static_cast<Words&>(state);
  CachedWords cached(words.cache, section.readable_end, ids, [&](std::string_view word, IdBuffer& out) {
    out.commit(model_.encode(word, out.room(word.size()), words.scratch));
  });
  cutter_.each(section.text, cached.words(), [&] { cached.look_up(); });
  if (!spans) return;
  std::size_t from = 0;  // nothing is lost between the words, so the tokens lie end to end
  for (std::size_t i = before; i < ids.size(); ++i) {
    const std::size_t to = from + model_.token(ids.data()[i]).size();
    spans->push_back({from, to});
    from = to;
  }
}

}  // namespace seedbed::tokenizer

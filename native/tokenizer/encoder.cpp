#include "tokenizer/encoder.hpp"

#include <algorithm>
#include <span>

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {

void IdBuffer::grow(std::size_t more) {
  const std::size_t wanted = std::max(size_ + more, capacity_ + capacity_ / 2 + 64);
  auto larger = std::make_unique_for_overwrite<std::uint32_t[]>(wanted);
  std::copy_n(ids_.get(), size_, larger.get());
  ids_ = std::move(larger);
  capacity_ = wanted;
}

// A workspace for the length of one piece of work; idle ones wait in the encoder for the next.
class Encoder::Lease {
 public:
  explicit Lease(const Encoder& encoder) : encoder_(encoder) {
    {
      const std::lock_guard lock(encoder.mutex_);
      if (!encoder.idle_.empty()) {
        workspace_ = std::move(encoder.idle_.back());
        encoder.idle_.pop_back();
      }
    }
    if (!workspace_) workspace_ = std::make_unique<Workspace>();
  }
  ~Lease() {
    constexpr std::size_t kMostIdle = 256, kMostScratch = std::size_t{1} << 16;
    if (workspace_->scratch.symbols.capacity() > kMostScratch) workspace_->scratch = MergeScratch();
    const std::lock_guard lock(encoder_.mutex_);
    if (encoder_.idle_.size() < kMostIdle) encoder_.idle_.push_back(std::move(workspace_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Workspace& operator*() { return *workspace_; }

 private:
  const Encoder& encoder_;
  std::unique_ptr<Workspace> workspace_;
};

Encoder::Batch Encoder::encode(const std::vector<std::string_view>& texts, unsigned threads, bool parse_special) const {
  const auto blocks = blocks_of(texts);
  Batch batch{std::vector<IdBuffer>(blocks.size()), std::vector<std::size_t>(texts.size())};
  parallel_for(blocks.size(), threads, [&](unsigned, std::size_t block) {
    Lease workspace(*this);
    IdBuffer& out = batch.parts[block];
    for (std::size_t i = blocks[block].first; i < blocks[block].second; ++i) {
      const std::size_t before = out.size();
      encode_text(texts[i], parse_special, *workspace, out);
      batch.lengths[i] = out.size() - before;
    }
  });
  return batch;
}

void Encoder::encode_text(std::string_view text, bool parse_special, Workspace& workspace, IdBuffer& out) const {
  const auto bytes = [](const char* p) { return reinterpret_cast<const std::uint8_t*>(p); };
  const std::uint8_t* readable_end = bytes(text.data() + text.size());
  added_.split(
      text, parse_special,
      [&](const char* from, const char* to) { encode_words(bytes(from), bytes(to), readable_end, workspace, out); },
      [&](std::uint32_t id) {
        *out.room(1) = id;
        out.commit(1);
      });
}

// Words are cut a few ahead of being looked up, so that their buckets come from memory meanwhile.
void Encoder::encode_words(const std::uint8_t* p, const std::uint8_t* end, const std::uint8_t* readable_end,
                           Workspace& workspace, IdBuffer& out) const {
  struct Ahead {
    std::string_view word;
    WordCache::Key key;
    WordCache::Bucket* bucket;  // null: too long for one
  };
  Ahead words[16];
  while (p < end) {
    std::size_t count = 0;
    for (; count < std::size(words) && p < end; ++count) {
      const std::uint8_t* after = cut_(p, end);
      const auto length = static_cast<std::size_t>(after - p);
      Ahead& ahead = words[count];
      ahead.word = {reinterpret_cast<const char*>(p), length};
      ahead.bucket = nullptr;
      if (length <= WordCache::kShortBytes) {
        ahead.key = WordCache::key_of(p, length, static_cast<std::size_t>(readable_end - p));
        ahead.bucket = workspace.cache.bucket(ahead.key);
        WordCache::prefetch(ahead.bucket);
      }
      p = after;
    }
    for (const Ahead& ahead : std::span(words, count)) {
      if (!ahead.bucket) {
        encode_new_word(ahead.word, workspace, out);
        continue;
      }
      if (const WordCache::ShortSlot* slot = WordCache::find(*ahead.bucket, ahead.key)) {
        std::copy_n(slot->ids, WordCache::kShortIds, out.room(WordCache::kShortIds));  // cheaper than asking how many
        out.commit(slot->count);
      } else {
        const std::size_t before = out.size();
        encode_new_word(ahead.word, workspace, out);
        WordCache::fill(*ahead.bucket, ahead.key, out.data() + before, out.size() - before);
      }
    }
  }
}

// A word that the table of short words does not hold: perhaps the one of long words does.
void Encoder::encode_new_word(std::string_view word, Workspace& workspace, IdBuffer& out) const {
  std::uint32_t* room = out.room(word.size());
  if (word.size() > WordCache::LongSlot::kBytes) {
    out.commit(model_.encode(word, room, workspace.scratch));
    return;
  }
  const std::uint32_t hash = WordCache::hash_of(word);
  WordCache::LongSlot& slot = workspace.cache.long_slot(hash);
  if (WordCache::holds(slot, word, hash)) {
    std::copy_n(slot.ids, slot.count, room);
    out.commit(slot.count);
    return;
  }
  const std::size_t count = model_.encode(word, room, workspace.scratch);
  WordCache::fill(slot, word, hash, room, count);
  out.commit(count);
}

}  // namespace seedbed::tokenizer

#include "tokenizer/encoder.hpp"

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {

// A state for the length of one piece of work; idle ones wait in the encoder for the next, so that caches stay warm.
class Encoder::Lease {
 public:
  explicit Lease(const Encoder& encoder) : encoder_(encoder) {
    {
      const std::lock_guard lock(encoder.mutex_);
      if (!encoder.idle_.empty()) {
        state_ = std::move(encoder.idle_.back());
        encoder.idle_.pop_back();
      }
    }
    if (!state_) state_ = encoder.algorithm_->new_state();
  }
  ~Lease() {
    constexpr std::size_t kMostIdle = 256;
    state_->shrink();
    const std::lock_guard lock(encoder_.mutex_);
    if (encoder_.idle_.size() < kMostIdle) encoder_.idle_.push_back(std::move(state_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Algorithm::State& operator*() { return *state_; }

 private:
  const Encoder& encoder_;
  std::unique_ptr<Algorithm::State> state_;
};

namespace {

void shift(std::vector<Span>& spans, std::size_t first, std::size_t by) {
  for (std::size_t i = first; i < spans.size(); ++i) {
    spans[i].from += by;
    spans[i].to += by;
  }
}

}  // namespace

Encoder::Batch Encoder::encode(const std::vector<std::string_view>& texts, unsigned threads, bool parse_special) const {
  const auto blocks = blocks_of(texts);
  Batch batch{std::vector<IdBuffer>(blocks.size()), std::vector<std::size_t>(texts.size())};
  parallel_for(blocks.size(), threads, [&](unsigned, std::size_t block) {
    Lease state(*this);
    IdBuffer& out = batch.parts[block];
    for (std::size_t i = blocks[block].first; i < blocks[block].second; ++i) {
      const std::size_t before = out.size();
      encode_text(texts[i], parse_special, *state, out, nullptr);
      batch.lengths[i] = out.size() - before;
    }
  });
  return batch;
}

void Encoder::encode(std::string_view text, bool parse_special, IdBuffer& ids, std::vector<Span>& spans) const {
  Lease state(*this);
  encode_text(text, parse_special, *state, ids, &spans);
}

void Encoder::encode_text(std::string_view text, bool parse_special, Algorithm::State& state, IdBuffer& ids,
                          std::vector<Span>* spans) const {
  const auto place = [&](const char* p) { return static_cast<std::size_t>(p - text.data()); };
  added_.split_raw(
      text, parse_special,
      [&](const char* from, const char* to) {
        const Section section{{from, static_cast<std::size_t>(to - from)},
                              text.data() + text.size(),
                              from == text.data(),
                              algorithm_->normalizer() == nullptr};
        const std::size_t before = spans ? spans->size() : 0;
        encode_section(section, parse_special, state, ids, spans);
        if (spans) shift(*spans, before, place(from));
      },
      [&](const char* from, const char* to, std::uint32_t id) {
        ids.push(id);
        if (spans) spans->push_back({place(from), place(to)});
      });
}

// A section without tokens that stand in text as it is; there may be some that stand in normalised text.
void Encoder::encode_section(const Section& section, bool parse_special, Algorithm::State& state, IdBuffer& ids,
                             std::vector<Span>* spans) const {
  if (!added_.any_normalized(parse_special)) return algorithm_->encode(section, state, ids, spans);
  std::string normalized;
  std::vector<Span> origins;
  Section whole = section;
  if (!section.normalized) {
    algorithm_->normalizer()->normalize(section.text, normalized, spans ? &origins : nullptr);
    whole = {normalized, normalized.data() + normalized.size(), section.at_start, true};
  }
  const auto place = [&](const char* p) { return static_cast<std::size_t>(p - whole.text.data()); };
  const std::size_t before = spans ? spans->size() : 0;
  added_.split_normalized(
      whole.text, parse_special,
      [&](const char* from, const char* to) {
        const std::size_t before_part = spans ? spans->size() : 0;
        algorithm_->encode({{from, static_cast<std::size_t>(to - from)},
                            whole.readable_end,
                            whole.at_start && from == whole.text.data(),
                            true},
                           state, ids, spans);
        if (spans) shift(*spans, before_part, place(from));
      },
      [&](const char* from, const char* to, std::uint32_t id) {
        ids.push(id);
        if (spans) spans->push_back({place(from), place(to)});
      });
  if (!spans || section.normalized) return;
  for (std::size_t i = before; i < spans->size(); ++i) {
    Span& span = (*spans)[i];
    if (span.from < span.to) span = {origins[span.from].from, origins[span.to - 1].to};
  }
}

}  // namespace seedbed::tokenizer

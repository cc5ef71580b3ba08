#include "tokenizer/encoder.hpp"

#include <functional>
#include <numeric>
#include <optional>

#include "tokenizer/parallel.hpp"

namespace seedbed::tokenizer {

// What a thread works with, for the length of one piece of work; idle ones wait in the encoder for the next, so that
// caches stay warm and memory need not be asked for again.
class Encoder::Lease {
 public:
  explicit Lease(const Encoder& encoder) : encoder_(encoder) {
    {
      const std::lock_guard lock(encoder.mutex_);
      if (!encoder.idle_.empty()) {
        place_ = std::move(encoder.idle_.back());
        encoder.idle_.pop_back();
      }
    }
    if (!place_.state) place_.state = encoder.algorithm_->new_state();
    place_.ids.clear();
  }
  Lease(Lease&&) = default;
  ~Lease() {
    constexpr std::size_t kMostIdle = 256, kMostIds = std::size_t{1} << 23, kMostBytes = std::size_t{1} << 24;
    if (!place_.state) return;  // moved away
    place_.state->shrink();
    if (place_.ids.capacity() > kMostIds) place_.ids = IdBuffer();
    if (place_.reader.capacity() > kMostBytes) place_.reader = Utf8Reader();
    const std::lock_guard lock(encoder_.mutex_);
    if (encoder_.idle_.size() < kMostIdle) encoder_.idle_.push_back(std::move(place_));
  }
  Algorithm::State& state() { return *place_.state; }
  IdBuffer& ids() { return place_.ids; }
  Utf8Reader& reader() { return place_.reader; }

 private:
  const Encoder& encoder_;
  Workplace place_;
};

namespace {

constexpr std::size_t kBytesPerId = 4;  // or somewhat more: for room to begin with

void shift(std::vector<Span>& spans, std::size_t first, std::size_t by) {
  for (std::size_t i = first; i < spans.size(); ++i) {
    spans[i].from += by;
    spans[i].to += by;
  }
}

}  // namespace

Encoder::Batch Encoder::encode(const std::vector<Text>& texts, unsigned threads, bool parse_special) const {
  const auto blocks = blocks_of(texts);
  threads = threads_for(blocks.size(), threads);
  Batch batch{{}, std::vector<std::int64_t>(texts.size() + 1)};
  const auto encode_block = [&](std::size_t block, Lease& lease, IdBuffer& ids) {
    for (std::size_t i = blocks[block].first; i < blocks[block].second; ++i) {
      const std::size_t before = ids.size();
      encode_text(lease.reader().read(texts[i]), parse_special, lease.state(), ids, nullptr);
      batch.offsets[i + 1] = static_cast<std::int64_t>(ids.size() - before);
    }
  };
  const std::size_t about = std::transform_reduce(texts.begin(), texts.end(), std::size_t{0}, std::plus<>(),
                                                  [](const Text& text) { return text.length; }) / kBytesPerId;
  if (threads == 1) {  // straight into the result
    Lease lease(*this);
    batch.ids.reserve(about);
    for (std::size_t block = 0; block < blocks.size(); ++block) encode_block(block, lease, batch.ids);
    std::partial_sum(batch.offsets.begin(), batch.offsets.end(), batch.offsets.begin());
    return batch;
  }
  struct Made {  // the ids of a block: where its thread put them
    unsigned thread;
    std::size_t from, count;
  };
  std::vector<Made> made(blocks.size());
  std::vector<std::optional<Lease>> leases(threads);
  parallel_for(blocks.size(), threads, [&](unsigned thread, std::size_t block) {
    if (!leases[thread]) {
      leases[thread].emplace(*this);
      leases[thread]->ids().reserve(about / threads);
    }
    IdBuffer& ids = leases[thread]->ids();
    const std::size_t from = ids.size();
    encode_block(block, *leases[thread], ids);
    made[block] = {thread, from, ids.size() - from};
  });
  std::partial_sum(batch.offsets.begin(), batch.offsets.end(), batch.offsets.begin());
  std::uint32_t* const all = batch.ids.room(static_cast<std::size_t>(batch.offsets.back()));
  parallel_for(blocks.size(), threads, [&](unsigned, std::size_t block) {
    const Made& part = made[block];
    std::copy_n(leases[part.thread]->ids().data() + part.from, part.count, all + batch.offsets[blocks[block].first]);
  });
  batch.ids.commit(static_cast<std::size_t>(batch.offsets.back()));
  return batch;
}

IdBuffer Encoder::encode(const Text& text, bool parse_special) const {
  Lease lease(*this);
  encode_text(lease.reader().read(text), parse_special, lease.state(), lease.ids(), nullptr);
  IdBuffer ids;
  std::copy_n(lease.ids().data(), lease.ids().size(), ids.room(lease.ids().size()));
  ids.commit(lease.ids().size());
  return ids;
}

void Encoder::encode(std::string_view text, bool parse_special, IdBuffer& ids, std::vector<Span>& spans) const {
  Lease lease(*this);
  encode_text(text, parse_special, lease.state(), ids, &spans);
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
  if (!added_.any_normalized()) return algorithm_->encode(section, state, ids, spans);
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

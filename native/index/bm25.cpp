#include "index/bm25.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace seedbed::index {
namespace {

class Exclusive {
 public:
  Exclusive(std::mutex& turnstile, std::shared_mutex& access) : gate_(turnstile), lock_(access) {}

 private:
  std::unique_lock<std::mutex> gate_;
  std::unique_lock<std::shared_mutex> lock_;
};

void require_distinct(const std::int64_t* ids, std::size_t count) {
  std::vector<std::int64_t> sorted(ids, ids + count);
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) throw std::invalid_argument("id " + std::to_string(*twice) + " is given twice");
}

using Amounts = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // a document's terms, ascending, with counts or bits

void count_terms(const std::uint32_t* terms, std::size_t count, Amounts& found) {
  std::vector<std::uint32_t> sorted(terms, terms + count);
  std::sort(sorted.begin(), sorted.end());
  found.clear();
  for (std::uint32_t term : sorted) {
    if (found.empty() || found.back().first != term) found.emplace_back(term, 0);
    ++found.back().second;
  }
}

void weigh_terms(const std::uint32_t* terms, const float* weights, std::size_t count, Amounts& found) {
  found.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (!(weights[i] > 0) || weights[i] > std::numeric_limits<float>::max())
      throw std::invalid_argument("a weight is not a number above 0");
    found.emplace_back(terms[i], std::bit_cast<std::uint32_t>(weights[i]));
  }
  std::sort(found.begin(), found.end());
  for (std::size_t i = 1; i < found.size(); ++i)
    if (found[i - 1].first == found[i].first) throw std::invalid_argument("a term has two weights in one document");
}

}  // namespace

void Bm25::add(const std::uint32_t* terms, const float* weights, const std::int64_t* offsets, const std::int64_t* ids,
               std::size_t count, std::size_t vocabulary) {
  const Exclusive lock(turnstile_, access_);
  require_distinct(ids, count);
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  if (labels_.size() + count >= 0xFFFFFFF0u) throw std::invalid_argument("the index would hold too many documents");
  Amounts own;
  const auto gather = [&](std::size_t i) {
    const auto first = static_cast<std::size_t>(offsets[i]), many = static_cast<std::size_t>(offsets[i + 1]) - first;
    if (learned_) weigh_terms(terms + first, weights + first, many, own);
    else count_terms(terms + first, many, own);
    return many;
  };
  if (learned_)
    for (std::size_t i = 0; i < count; ++i) gather(i);  // throws before anything is changed
  if (vocabulary > recent_.size()) recent_.resize(vocabulary);
  if (vocabulary > frequency_.size()) {
    frequency_.resize(vocabulary, 0);
    bounds_.resize(vocabulary, 0.0f);
  }
  const double per_length = saturation_ * b_ / bounds_average_, fixed = saturation_ * (1 - b_);
  for (std::size_t i = 0; i < count; ++i) {
    const auto document = static_cast<std::uint32_t>(labels_.size());
    const std::size_t length = gather(i);
    const double norm = fixed + per_length * static_cast<double>(length);
    for (const auto& [term, amount] : own) {
      recent_[term].documents.push_back(document);
      recent_[term].counts.push_back(amount);
      ++frequency_[term];
      own_terms_.push_back(term);
      own_counts_.push_back(amount);
      bounds_[term] = std::max(bounds_[term], static_cast<float>(share(amount, norm)));
    }
    recent_count_ += own.size();
    own_offsets_.push_back(own_terms_.size());
    lengths_.push_back(static_cast<std::uint32_t>(length));
    removed_.push_back(0);
    labels_.resize(labels_.size() + 1, ids[i]);
    map_.insert(ids[i], document, labels_.data());
    total_length_ += length;
    ++live_;
  }
  changed_since_bounds_ += count;
  if (recent_count_ * 4 > documents_.size() + recent_count_) compact();
  refresh_bounds();
}

void Bm25::remove(const std::int64_t* ids, std::size_t count) {
  const Exclusive lock(turnstile_, access_);
  require_distinct(ids, count);
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) == LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is not in the index");
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t document = map_.find(ids[i], labels_.data());
    map_.erase(ids[i], labels_.data());
    removed_[document] = 1;
    for (std::uint64_t j = own_offsets_[document]; j < own_offsets_[document + 1]; ++j) --frequency_[own_terms_[j]];
    total_length_ -= lengths_[document];
    --live_;
  }
  changed_since_bounds_ += count;
  if ((labels_.size() - live_) * 5 > labels_.size()) compact();
  refresh_bounds();
}

// Everything live into the flat arrays, documents renumbered in their order.
void Bm25::compact() {
  std::vector<std::uint32_t> renamed(labels_.size());
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < labels_.size(); ++i) renamed[i] = removed_[i] ? LabelMap::kNone : next++;
  Array<std::int64_t> labels;
  labels.resize(live_, 0);
  for (std::size_t i = 0; i < labels_.size(); ++i)
    if (!removed_[i]) labels.at(renamed[i]) = labels_[i];

  const std::size_t vocabulary = frequency_.size();
  std::size_t total = 0;
  for (std::uint32_t holders : frequency_) total += holders;
  Array<std::uint64_t> term_offsets;
  Array<std::uint32_t> documents, counts;
  term_offsets.resize(vocabulary + 1, 0);
  documents.resize(total, 0);
  counts.resize(total, 0);
  std::size_t at = 0;
  for (std::size_t term = 0; term < vocabulary; ++term) {
    each_posting(static_cast<std::uint32_t>(term), [&](std::uint32_t document, std::uint32_t times) {
      if (removed_[document]) return;
      documents.at(at) = renamed[document];
      counts.at(at++) = times;
    });
    term_offsets.at(term + 1) = at;
  }
  labels_.swap(labels);
  term_offsets_.swap(term_offsets);
  documents_.swap(documents);
  counts_.swap(counts);
  recent_ = std::vector<Recent>(vocabulary);
  recent_count_ = 0;
  count_documents();
}

double Bm25::average_length() const {
  return std::max(1.0, static_cast<double>(total_length_)) / static_cast<double>(std::max<std::size_t>(live_, 1));
}

// The bounds hold for shorter averages as they are and for longer ones when they are raised in proportion, as a search does;
// taking them anew when an eighth of the documents has changed keeps them sharp, at a constant cost a document.
void Bm25::refresh_bounds() {
  if (changed_since_bounds_ * 8 <= live_) return;
  changed_since_bounds_ = 0;
  bounds_average_ = average_length();
  bounds_.assign(frequency_.size(), 0.0f);
  const double per_length = saturation_ * b_ / bounds_average_, fixed = saturation_ * (1 - b_);
  for (std::size_t document = 0; document < labels_.size(); ++document) {
    if (removed_[document]) continue;
    const double norm = fixed + per_length * lengths_[document];
    for (std::uint64_t i = own_offsets_[document]; i < own_offsets_[document + 1]; ++i) {
      float& bound = bounds_[own_terms_[i]];
      bound = std::max(bound, static_cast<float>(share(own_counts_[i], norm)));
    }
  }
}

// Lengths, frequencies and each document's terms, from the flat arrays alone.
void Bm25::count_documents() {
  const std::size_t count = labels_.size(), vocabulary = term_offsets_.size() - 1;
  live_ = count;
  total_length_ = 0;
  lengths_.assign(count, 0);
  removed_.assign(count, 0);
  frequency_.assign(vocabulary, 0);
  own_offsets_.assign(count + 1, 0);
  own_terms_.resize(documents_.size());
  own_counts_.resize(documents_.size());
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    const std::uint32_t times = learned_ ? 1 : counts_[i];
    lengths_[documents_[i]] += times;
    total_length_ += times;
    ++own_offsets_[documents_[i] + 1];
  }
  for (std::size_t i = 0; i < count; ++i) own_offsets_[i + 1] += own_offsets_[i];
  std::vector<std::uint64_t> place(own_offsets_.begin(), own_offsets_.end() - 1);
  for (std::size_t term = 0; term < vocabulary; ++term) {
    frequency_[term] = static_cast<std::uint32_t>(term_offsets_[term + 1] - term_offsets_[term]);
    for (std::uint64_t i = term_offsets_[term]; i < term_offsets_[term + 1]; ++i) {
      const std::uint64_t at = place[documents_[i]]++;
      own_terms_[at] = static_cast<std::uint32_t>(term);
      own_counts_[at] = counts_[i];
    }
  }
  lengths_.shrink_to_fit();  // documents that came one by one left room behind
  removed_.shrink_to_fit();
  own_offsets_.shrink_to_fit();
  own_terms_.shrink_to_fit();
  own_counts_.shrink_to_fit();
  map_.clear(count);
  for (std::uint32_t document = 0; document < count; ++document) map_.insert(labels_[document], document, labels_.data());
  changed_since_bounds_ = count + 1;
  refresh_bounds();
}

Bm25State Bm25::compacted_state() {
  const Exclusive lock(turnstile_, access_);
  compact();
  return {labels_.span(), term_offsets_.span(), documents_.span(), counts_.span()};
}

void Bm25::restore(const Bm25State& state) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  };
  constexpr auto kInfinity = std::bit_cast<std::uint32_t>(std::numeric_limits<float>::infinity());
  require(!state.term_offsets.empty() && state.documents.size() == state.counts.size() &&
              state.term_offsets.front() == 0 && state.term_offsets.back() == state.documents.size() &&
              std::is_sorted(state.term_offsets.begin(), state.term_offsets.end()) &&
              state.labels.size() < 0xFFFFFFF0u && state.term_offsets.size() < 0xFFFFFFF0u,
          "the postings do not belong together");
  for (std::size_t i = 0; i < state.documents.size(); ++i)
    require(state.documents[i] < state.labels.size() && state.counts[i] > 0 &&
                state.counts[i] < (learned_ ? kInfinity : 0x80000000u),
            "a posting names no document, or has no amount");
  for (std::size_t term = 0; term + 1 < state.term_offsets.size(); ++term)
    for (std::uint64_t i = state.term_offsets[term] + 1; i < state.term_offsets[term + 1]; ++i)
      require(state.documents[i - 1] < state.documents[i], "the postings are out of order");
  const Exclusive lock(turnstile_, access_);
  labels_.borrow(state.labels);
  term_offsets_.borrow(state.term_offsets);
  documents_.borrow(state.documents);
  counts_.borrow(state.counts);
  recent_ = std::vector<Recent>(state.term_offsets.size() - 1);
  recent_count_ = 0;
  count_documents();
}

std::size_t Bm25::size() const {
  const std::shared_lock lock(access_);
  return live_;
}

std::size_t Bm25::memory_bytes() const {
  const std::shared_lock lock(access_);
  std::size_t recent = recent_.capacity() * sizeof(recent_[0]);
  for (const Recent& list : recent_) recent += (list.documents.capacity() + list.counts.capacity()) * 4;
  return recent + labels_.bytes() + term_offsets_.bytes() + documents_.bytes() + counts_.bytes() + map_.bytes() +
         frequency_.capacity() * 4 + lengths_.capacity() * 4 + removed_.capacity() + own_offsets_.capacity() * 8 +
         (own_terms_.capacity() + own_counts_.capacity() + bounds_.capacity()) * 4;
}

}  // namespace seedbed::index

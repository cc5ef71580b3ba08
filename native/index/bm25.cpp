#include "index/bm25.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "index/parallel.hpp"

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

}  // namespace

template <class Visit>
void Bm25::each_posting(std::uint32_t term, const Visit& visit) const {
  if (std::size_t{term} + 1 < term_offsets_.size())
    for (std::uint64_t i = term_offsets_[term]; i < term_offsets_[term + 1]; ++i) visit(documents_[i], counts_[i]);
  if (term < recent_.size())
    for (const Posting& one : recent_[term]) visit(one.document, one.count);
}

void Bm25::add(const std::uint32_t* terms, const std::int64_t* offsets, const std::int64_t* ids, std::size_t count,
               std::size_t vocabulary) {
  const Exclusive lock(turnstile_, access_);
  require_distinct(ids, count);
  for (std::size_t i = 0; i < count; ++i)
    if (map_.find(ids[i], labels_.data()) != LabelMap::kNone)
      throw std::invalid_argument("id " + std::to_string(ids[i]) + " is in the index already");
  if (labels_.size() + count >= 0xFFFFFFF0u) throw std::invalid_argument("the index would hold too many documents");
  if (vocabulary > recent_.size()) recent_.resize(vocabulary);
  if (vocabulary > frequency_.size()) frequency_.resize(vocabulary, 0);
  std::vector<std::uint32_t> sorted;
  for (std::size_t i = 0; i < count; ++i) {
    const auto document = static_cast<std::uint32_t>(labels_.size());
    sorted.assign(terms + offsets[i], terms + offsets[i + 1]);
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t j = 0; j < sorted.size();) {
      std::size_t end = j;
      while (end < sorted.size() && sorted[end] == sorted[j]) ++end;
      recent_[sorted[j]].push_back({document, static_cast<std::uint32_t>(end - j)});
      ++frequency_[sorted[j]];
      own_terms_.push_back(sorted[j]);
      j = end;
    }
    own_offsets_.push_back(own_terms_.size());
    lengths_.push_back(static_cast<std::uint32_t>(sorted.size()));
    removed_.push_back(0);
    labels_.resize(labels_.size() + 1, ids[i]);
    map_.insert(ids[i], document, labels_.data());
    total_length_ += sorted.size();
    ++live_;
  }
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
  if ((labels_.size() - live_) * 5 > labels_.size()) compact();
}

void Bm25::search(const std::uint32_t* terms, const std::int64_t* offsets, std::size_t count, std::size_t k,
                  const std::vector<std::int64_t>* allowed, std::size_t threads, float* scores,
                  std::int64_t* ids) const {
  std::fill(scores, scores + count * k, -std::numeric_limits<float>::infinity());
  std::fill(ids, ids + count * k, std::int64_t{-1});
  std::unique_lock gate(turnstile_);
  const std::shared_lock lock(access_);
  gate.unlock();
  if (live_ == 0 || k == 0) return;

  std::vector<std::uint8_t> hidden = removed_;
  if (allowed) {
    std::fill(hidden.begin(), hidden.end(), std::uint8_t{1});
    for (std::int64_t label : *allowed) {
      const std::uint32_t document = map_.find(label, labels_.data());
      if (document != LabelMap::kNone) hidden[document] = 0;
    }
  }
  const double average = std::max(1.0, static_cast<double>(total_length_)) / static_cast<double>(live_);
  std::vector<float> norms(lengths_.size());
  for (std::size_t i = 0; i < norms.size(); ++i) norms[i] = static_cast<float>(k1_ * (1.0 - b_ + b_ * lengths_[i] / average));

  struct Work {
    std::vector<float> sums;
    std::vector<std::uint32_t> touched, query;
  };
  std::vector<Work> work(std::max<std::size_t>(1, std::min(threads, count)));
  parallel_for(count, threads, [&](std::size_t worker, std::size_t q) {
    auto& [sums, touched, query] = work[worker];
    sums.resize(labels_.size(), 0.0f);
    touched.clear();
    query.assign(terms + offsets[q], terms + offsets[q + 1]);
    std::sort(query.begin(), query.end());
    for (std::size_t i = 0; i < query.size();) {
      const std::uint32_t term = query[i];
      std::size_t end = i;
      while (end < query.size() && query[end] == term) ++end;
      const double repeated = static_cast<double>(end - i);
      i = end;
      if (term >= frequency_.size() || frequency_[term] == 0) continue;
      const double holders = frequency_[term];
      const auto weight =
          static_cast<float>(repeated * std::log(1.0 + (static_cast<double>(live_) - holders + 0.5) / (holders + 0.5)));
      each_posting(term, [&](std::uint32_t document, std::uint32_t times) {
        if (hidden[document]) return;
        const auto tf = static_cast<float>(times);
        if (sums[document] == 0.0f) touched.push_back(document);
        sums[document] += weight * tf / (tf + norms[document]);
      });
    }
    const auto better = [&sums = sums](std::uint32_t a, std::uint32_t b) {
      return sums[a] > sums[b] || (sums[a] == sums[b] && a < b);
    };
    const std::size_t found = std::min(k, touched.size());
    std::partial_sort(touched.begin(), touched.begin() + static_cast<std::ptrdiff_t>(found), touched.end(), better);
    for (std::size_t i = 0; i < found; ++i) {
      scores[q * k + i] = sums[touched[i]];
      ids[q * k + i] = labels_[touched[i]];
    }
    for (std::uint32_t document : touched) sums[document] = 0.0f;
  });
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
  recent_.assign(vocabulary, {});
  count_documents();
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
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    lengths_[documents_[i]] += counts_[i];
    total_length_ += counts_[i];
    ++own_offsets_[documents_[i] + 1];
  }
  for (std::size_t i = 0; i < count; ++i) own_offsets_[i + 1] += own_offsets_[i];
  std::vector<std::uint64_t> place(own_offsets_.begin(), own_offsets_.end() - 1);
  for (std::size_t term = 0; term < vocabulary; ++term) {
    frequency_[term] = static_cast<std::uint32_t>(term_offsets_[term + 1] - term_offsets_[term]);
    for (std::uint64_t i = term_offsets_[term]; i < term_offsets_[term + 1]; ++i)
      own_terms_[place[documents_[i]]++] = static_cast<std::uint32_t>(term);
  }
  map_.clear(count);
  for (std::uint32_t document = 0; document < count; ++document) map_.insert(labels_[document], document, labels_.data());
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
  require(!state.term_offsets.empty() && state.documents.size() == state.counts.size() &&
              state.term_offsets.front() == 0 && state.term_offsets.back() == state.documents.size() &&
              std::is_sorted(state.term_offsets.begin(), state.term_offsets.end()) &&
              state.labels.size() < 0xFFFFFFF0u && state.term_offsets.size() < 0xFFFFFFF0u,
          "the postings do not belong together");
  for (std::size_t i = 0; i < state.documents.size(); ++i)
    require(state.documents[i] < state.labels.size() && state.counts[i] > 0, "a posting names no document");
  const Exclusive lock(turnstile_, access_);
  labels_.borrow(state.labels);
  term_offsets_.borrow(state.term_offsets);
  documents_.borrow(state.documents);
  counts_.borrow(state.counts);
  recent_.assign(state.term_offsets.size() - 1, {});
  count_documents();
}

std::size_t Bm25::size() const {
  const std::shared_lock lock(access_);
  return live_;
}

std::size_t Bm25::memory_bytes() const {
  const std::shared_lock lock(access_);
  std::size_t recent = recent_.capacity() * sizeof(recent_[0]);
  for (const auto& list : recent_) recent += list.capacity() * sizeof(Posting);
  return recent + labels_.bytes() + term_offsets_.bytes() + documents_.bytes() + counts_.bytes() + map_.bytes() +
         frequency_.capacity() * 4 + lengths_.capacity() * 4 + removed_.capacity() + own_offsets_.capacity() * 8 +
         own_terms_.capacity() * 4;
}

}  // namespace seedbed::index

// Searching: MaxScore (Turtle & Flood 1995) over windows of documents, as Lucene's bulk scorer goes about it. Within a window
// the lists that can lift a document among the best by themselves are added up in an array that stays in the nearest cache;
// the lists that cannot are only looked up for the documents that come close. As the k-th best score rises, fewer lists are
// read. Scores are taken again in double precision from the formula, so that they depend on nothing of this.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "index/bm25.hpp"
#include "index/parallel.hpp"
#include "simd/take.hpp"

namespace seedbed::index {
namespace {

constexpr float kSlack = 1e-5f;  // far more than float32 sums of a query's terms may be off by
constexpr std::size_t kTies = 64;  // documents beyond the k-th that are scored exactly, lest rounding decides who is in
constexpr std::size_t kWindow = 4096;  // its sums fit the nearest cache
constexpr std::size_t kSeek = 8;    // looking a document up in a list costs about as much as adding so many postings up
constexpr std::size_t kScore = 48;  // and so does scoring one from its own terms

struct Candidate {
  float sum;
  std::uint32_t document;
};

// A list, or its part that is flat or recent, and how far it has been read.
struct Run {
  const std::uint32_t* documents;
  const std::uint32_t* counts;
  std::size_t at, end;

  // To the first posting of `document` or a later one; galloping, since the documents asked for are far apart.
  bool seek(std::uint32_t document) {
    std::size_t step = 1;
    while (at + step < end && documents[at + step] < document) at += step, step *= 2;
    std::size_t last = std::min(at + step + 1, end);
    while (at < last) {
      const std::size_t middle = at + (last - at) / 2;
      if (documents[middle] < document) at = middle + 1;
      else last = middle;
    }
    return at < end && documents[at] == document;
  }
};

}  // namespace

struct Bm25::Workspace {
  float sums[kWindow] = {};  // of the window's documents; zeros between windows
  std::uint32_t places[kWindow + simd::kTakeLanes];  // documents of the window with large sums, and these
  float large[kWindow + simd::kTakeLanes];
  std::vector<Run> runs;               // two for each term of the query
  std::vector<float> best;             // the k largest sums so far, as a heap with the least in front
  std::vector<Candidate> candidates;
  std::vector<std::pair<double, std::uint32_t>> exact;
  std::vector<QueryTerm> query, by_term;
  float least = 0;  // what a document must reach to be among the k best so far

  void offer(std::size_t k, Candidate one) {
    if (one.sum < least * (1 - kSlack)) return;
    candidates.push_back(one);
    if (best.size() == k && one.sum <= best.front()) return;
    if (best.size() == k) {
      std::pop_heap(best.begin(), best.end(), std::greater<>());
      best.pop_back();
    }
    best.push_back(one.sum);
    std::push_heap(best.begin(), best.end(), std::greater<>());
    if (best.size() == k) least = best.front();
  }

  void drop_late_losers() {
    std::erase_if(candidates, [this](const Candidate& one) { return one.sum < least * (1 - kSlack); });
  }
};

Bm25::Bm25(Bm25Variant variant, double k1, double b, double delta)
    : variant_(variant), k1_(k1), b_(b), delta_(delta), saturation_(variant == Bm25Variant::L ? k1 + delta : k1), learned_(variant == Bm25Variant::Learned) {}

// What an occurrence gives: weight * times / (times + fixed + per_length * length), or the product of both weights.
struct Bm25::Curve {
  float weight, fixed, per_length;

  template <bool kLearned>
  float gain(std::uint32_t amount, std::int32_t length) const {
    float found;
    if constexpr (kLearned) {
      found = weight * std::bit_cast<float>(amount);
    } else {
      const auto count = static_cast<float>(static_cast<std::int32_t>(amount));
      found = weight * count / (count + (fixed + per_length * static_cast<float>(length)));
    }
    return std::max(found, std::numeric_limits<float>::min());  // a sum of zero would mean that the document holds no term
  }
};

double Bm25::idf(std::uint32_t term) const {
  const double documents = static_cast<double>(live_), holders = frequency_[term];
  switch (variant_) {
    case Bm25Variant::Lucene: return std::log1p((documents - holders + 0.5) / (holders + 0.5));
    case Bm25Variant::Robertson: return std::max(0.0, std::log((documents - holders + 0.5) / (holders + 0.5)));
    case Bm25Variant::Atire: return std::log(documents / holders);
    case Bm25Variant::Plus: return std::log((documents + 1) / holders);
    case Bm25Variant::L: return std::log((documents + 1) / (holders + 0.5));
    case Bm25Variant::Learned: break;  // the weights hold it
  }
  return 0;
}

// The distinct terms that some document holds, ascending, with weights and bounds.
double Bm25::weigh(const std::uint32_t* terms, const float* weights, std::size_t count, std::vector<QueryTerm>& query) const {
  query.clear();
  if (learned_) {
    for (std::size_t i = 0; i < count; ++i)
      if (terms[i] < frequency_.size() && frequency_[terms[i]] > 0 && weights[i] > 0)
        query.push_back({terms[i], weights[i], bounds_[terms[i]] * weights[i] * (1 + kSlack)});
    std::sort(query.begin(), query.end(), [](const auto& a, const auto& b) { return a.term < b.term; });
    return 0;
  }
  double factor = 1, base_factor = 0;
  if (variant_ == Bm25Variant::Atire || variant_ == Bm25Variant::Plus) factor = k1_ + 1;
  if (variant_ == Bm25Variant::Plus) base_factor = delta_;
  if (variant_ == Bm25Variant::L) {
    const double share = saturation_ > 0 ? k1_ / saturation_ : 1;  // of k1: without both, any occurrence counts as one
    factor = (k1_ + 1) * share;
    base_factor = (k1_ + 1) * (1 - share);
  }
  const double longer = std::max(1.0, average_length() / bounds_average_);
  std::vector<std::uint32_t> sorted(terms, terms + count);
  std::sort(sorted.begin(), sorted.end());
  double base = 0;
  for (std::size_t i = 0, end; i < count; i = end) {
    for (end = i; end < count && sorted[end] == sorted[i];) ++end;
    const std::uint32_t term = sorted[i];
    if (term >= frequency_.size() || frequency_[term] == 0) continue;
    const double rarity = static_cast<double>(end - i) * idf(term), weight = rarity * factor;
    const double most = std::min(1.0, bounds_[term] * longer) * weight;
    query.push_back({term, weight, static_cast<float>(most) * (1 + kSlack)});
    base += rarity * base_factor;
  }
  return base;
}

// Negative if the document holds none of the terms.
double Bm25::exact_score(std::uint32_t document, const std::vector<QueryTerm>& by_term, double average) const {
  const std::uint32_t* at = own_terms_.data() + own_offsets_[document];
  const std::uint32_t* const end = own_terms_.data() + own_offsets_[document + 1];
  const double norm = saturation_ * (1 - b_ + b_ * lengths_[document] / average);
  double sum = 0;
  bool holds = false;
  for (const QueryTerm& one : by_term) {
    at = std::lower_bound(at, end, one.term);
    if (at == end) break;
    if (*at != one.term) continue;
    sum += one.weight * share(own_counts_[static_cast<std::size_t>(at - own_terms_.data())], norm);
    holds = true;
  }
  return holds ? sum : -1;
}

// Adds the run's part of the window that starts at `begin` to the window's sums.
template <bool kLearned>
void Bm25::add_run(std::size_t run, const Curve& curve, std::uint32_t begin, Workspace& work) const {
  constexpr std::size_t kBatch = 64;
  Run& list = work.runs[run];
  const std::uint64_t end = std::uint64_t{begin} + kWindow;
  while (list.at < list.end && list.documents[list.at] < end) {
    const std::size_t most = std::min(kBatch, list.end - list.at);
    const std::uint32_t *documents = list.documents + list.at, *counts = list.counts + list.at;
    std::size_t count = most;
    if (documents[most - 1] >= end) count = static_cast<std::size_t>(std::lower_bound(documents, documents + most, end) - documents);
    std::int32_t lengths[kBatch] = {};
    float gains[kBatch];
    if constexpr (!kLearned)
      for (std::size_t i = 0; i < count; ++i) lengths[i] = static_cast<std::int32_t>(lengths_[documents[i]]);
    for (std::size_t i = 0; i < count; ++i) gains[i] = curve.gain<kLearned>(counts[i], lengths[i]);
    for (std::size_t i = 0; i < count; ++i) work.sums[documents[i] - begin] += gains[i];
    list.at += count;
  }
}

// Leaves in work.candidates all documents that may be among the k best. `query` from the largest bound down.
void Bm25::gather(const std::vector<QueryTerm>& query, std::size_t k, const std::uint8_t* hidden, double average,
                  Workspace& work) const {
  const std::size_t terms = query.size();
  std::vector<Curve> curves;
  std::vector<float> later(terms + 1, 0.0f);  // what the terms from here on can give together
  work.runs.clear();
  work.best.clear();
  work.candidates.clear();
  work.least = -std::numeric_limits<float>::infinity();
  for (const QueryTerm& one : query) {
    curves.push_back({static_cast<float>(one.weight), static_cast<float>(saturation_ * (1 - b_)),
                      static_cast<float>(saturation_ * b_ / average)});
    const bool flat = std::size_t{one.term} + 1 < term_offsets_.size();
    work.runs.push_back({documents_.data(), counts_.data(), flat ? term_offsets_[one.term] : 0, flat ? term_offsets_[one.term + 1] : 0});
    const Recent& recent = recent_[one.term];
    work.runs.push_back({recent.documents.data(), recent.counts.data(), 0, recent.documents.size()});
  }
  for (std::size_t i = terms; i-- > 0;) later[i] = later[i + 1] + query[i].bound;

  const simd::TakeKernel take = simd::take_kernel(simd::level());
  std::size_t leading = terms;  // the terms before it are added up, those after it looked up
  // Every document of the leading lists may have to be looked up.
  const auto worth_looking_up = [&](std::size_t i) {
    std::size_t before = 0;
    for (std::size_t j = 0; j < i; ++j) before += frequency_[query[j].term];
    return before * kSeek < frequency_[query[i].term];
  };
  const auto complete = [&](Candidate one) {
    for (std::size_t i = leading; i < terms; ++i) {
      if (one.sum + later[i] < work.least * (1 - kSlack)) return;
      for (Run* run : {&work.runs[2 * i], &work.runs[2 * i + 1]})
        if (run->seek(one.document))
          one.sum += learned_ ? curves[i].gain<true>(run->counts[run->at], 0)
                              : curves[i].gain<false>(run->counts[run->at], static_cast<std::int32_t>(lengths_[one.document]));
    }
    work.offer(k, one);
  };
  for (;;) {
    while (leading > 0 && later[leading - 1] * (1 + kSlack) < work.least && worth_looking_up(leading - 1)) --leading;
    std::uint32_t next = LabelMap::kNone;
    for (std::size_t i = 0; i < 2 * leading; ++i)
      if (const Run& run = work.runs[i]; run.at < run.end) next = std::min(next, run.documents[run.at]);
    if (next == LabelMap::kNone) break;
    const auto begin = static_cast<std::uint32_t>(next / kWindow * kWindow);
    for (std::size_t i = 0; i < 2 * leading; ++i) {
      if (learned_) add_run<true>(i, curves[i / 2], begin, work);
      else add_run<false>(i, curves[i / 2], begin, work);
    }
    const float needed = (work.least - later[leading]) * (1 - kSlack) - later[leading] * kSlack;
    const std::size_t count =
        take(work.sums, kWindow, std::max(needed, std::numeric_limits<float>::min()), work.places, work.large);
    for (std::size_t i = 0; i < count; ++i)
      if (const std::uint32_t document = begin + work.places[i]; !(hidden && hidden[document])) complete({work.large[i], document});
  }
  work.drop_late_losers();
}

void Bm25::search_one(std::vector<QueryTerm>& query, std::size_t k, const Visible& visible, double base,
                             Workspace& work, float* scores, std::int64_t* ids) const {
  const double average = average_length();
  work.by_term = query;
  work.exact.clear();
  std::size_t postings = 0;
  for (const QueryTerm& one : query) postings += frequency_[one.term];
  const auto take = [&](std::uint32_t document) {
    const double score = exact_score(document, work.by_term, average);
    if (score >= 0) work.exact.emplace_back(-score, document);  // ascending order: best first, then who came first
  };
  if (visible.few && visible.few->size() * kScore < postings) {
    for (std::uint32_t document : *visible.few) take(document);
  } else {
    // Words so common that they weigh nothing (Robertson's variant) only fill up what the others leave free.
    std::erase_if(query, [](const QueryTerm& one) { return !(one.weight > 0); });
    work.candidates.clear();
    const std::vector<QueryTerm> weighty = query;
    std::stable_sort(query.begin(), query.end(), [](const auto& a, const auto& b) { return a.bound > b.bound; });
    if (!query.empty()) gather(query, k, visible.hidden, average, work);
    auto& candidates = work.candidates;
    if (candidates.size() > k + kTies) {
      std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(k + kTies), candidates.end(),
                       [](const auto& a, const auto& b) { return a.sum > b.sum || (a.sum == b.sum && a.document < b.document); });
      candidates.resize(k + kTies);
    }
    for (const Candidate& one : candidates) take(one.document);
    if (candidates.size() < k && query.size() < work.by_term.size()) {
      std::vector<std::uint32_t> weightless;
      for (const QueryTerm& one : work.by_term)
        if (!(one.weight > 0))
          each_posting(one.term, [&](std::uint32_t document, std::uint32_t) {
            if (!(visible.hidden && visible.hidden[document]) && exact_score(document, weighty, average) < 0) weightless.push_back(document);
          });
      std::sort(weightless.begin(), weightless.end());
      weightless.erase(std::unique(weightless.begin(), weightless.end()), weightless.end());
      for (std::uint32_t document : weightless) work.exact.emplace_back(0.0, document);
    }
  }
  const std::size_t found = std::min(k, work.exact.size());
  std::partial_sort(work.exact.begin(), work.exact.begin() + static_cast<std::ptrdiff_t>(found), work.exact.end());
  for (std::size_t i = 0; i < found; ++i) {
    scores[i] = static_cast<float>(base - work.exact[i].first);
    ids[i] = labels_[work.exact[i].second];
  }
}

void Bm25::search(const std::uint32_t* terms, const float* weights, const std::int64_t* offsets, std::size_t count, std::size_t k,
                  const std::vector<std::int64_t>* allowed, std::size_t threads, float* scores,
                  std::int64_t* ids) const {
  std::fill(scores, scores + count * k, -std::numeric_limits<float>::infinity());
  std::fill(ids, ids + count * k, std::int64_t{-1});
  std::unique_lock gate(turnstile_);
  const std::shared_lock lock(access_);
  gate.unlock();
  if (live_ == 0 || k == 0) return;

  std::vector<std::uint8_t> only_allowed;
  std::vector<std::uint32_t> few;
  if (allowed) {
    only_allowed.assign(labels_.size(), 1);
    for (std::int64_t label : *allowed) {
      const std::uint32_t document = map_.find(label, labels_.data());
      if (document == LabelMap::kNone) continue;
      only_allowed[document] = 0;
      few.push_back(document);
    }
  }
  const std::uint8_t* hidden = allowed ? only_allowed.data() : live_ < labels_.size() ? removed_.data() : nullptr;
  const Visible visible{hidden, allowed ? &few : nullptr};

  std::vector<std::unique_ptr<Workspace>> work(std::max<std::size_t>(1, std::min(threads, count)));
  parallel_for(count, threads, [&](std::size_t worker, std::size_t q) {
    if (!work[worker]) work[worker] = std::make_unique<Workspace>();
    std::vector<QueryTerm>& query = work[worker]->query;
    const double base = weigh(terms + offsets[q], learned_ ? weights + offsets[q] : nullptr,
                              static_cast<std::size_t>(offsets[q + 1] - offsets[q]), query);
    if (!query.empty()) search_one(query, std::min(k, live_), visible, base, *work[worker], scores + q * k, ids + q * k);
  });
}

}  // namespace seedbed::index

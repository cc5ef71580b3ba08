#include <algorithm>
#include <limits>
#include <stdexcept>

#include "index/multivector.hpp"
#include "index/parallel.hpp"

namespace seedbed::index {
namespace {

struct Near {
  float score;
  std::uint32_t which;
};

std::size_t code_bytes_for(std::size_t dim, unsigned bits) {
  const std::size_t group = simd::kCodeBytes * (8 / bits);
  return (dim + group - 1) / group * simd::kCodeBytes;
}

bool nearer(const Near& a, const Near& b) { return a.score > b.score || (a.score == b.score && a.which < b.which); }

void keep_first(std::vector<Near>& found, std::size_t count) {
  if (found.size() <= count) return;
  std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count), found.end(), nearer);
  found.resize(count);
}

// The `wanted` largest scores, falling.
void largest(const float* scores, std::size_t count, std::size_t wanted, std::vector<Near>& found) {
  constexpr std::size_t kBlock = 32;
  const std::size_t room = 2 * wanted + kBlock;
  float least = -std::numeric_limits<float>::infinity();
  found.clear();
  for (std::size_t first = 0; first < count; first += kBlock) {
    const std::size_t here = std::min(kBlock, count - first);
    if (here == kBlock) {
      std::uint32_t any = 0;
      for (std::size_t i = 0; i < kBlock; ++i) any |= scores[first + i] > least;
      if (!any) continue;
    }
    for (std::size_t i = first; i < first + here; ++i)
      if (scores[i] > least) found.push_back({scores[i], static_cast<std::uint32_t>(i)});
    if (found.size() < room) continue;
    keep_first(found, wanted);
    least = std::min_element(found.begin(), found.end(), [](const Near& a, const Near& b) { return a.score < b.score; })->score;
  }
  keep_first(found, wanted);
  std::sort(found.begin(), found.end(), nearer);
}

}  // namespace

struct MultiVector::Workspace {
  struct Entry {
    float sum;
    std::uint32_t stamp;  // of the last token that reached the document
  };
  std::vector<Entry> entries;  // by document
  std::uint32_t stamp = 0;     // stamps up to here are of earlier queries
  std::vector<float> scores;   // (query tokens, centroids)
  std::vector<float> decoded;  // the eight tokens that are being compared
  std::vector<Near> near, found;
  std::vector<std::uint32_t> touched;
  PackedQuery query;

  void begin(std::size_t documents, std::size_t tokens) {
    if (entries.size() < documents) entries.resize(documents, {0.0f, 0});
    if (tokens >= 0xFFFFFFFFu - stamp) {
      entries.assign(entries.size(), {0.0f, 0});
      stamp = 0;
    }
    touched.clear();
    found.clear();
  }
};

// Here, where a workspace is known.
MultiVector::MultiVector(std::size_t dim, unsigned bits, const std::string& spill)
    : dim_(dim), bits_(bits), code_bytes_(code_bytes_for(dim, bits)), stride_(code_bytes_ * (8 / bits)) {
  if (dim == 0 || (bits != 1 && bits != 2 && bits != 4)) throw std::invalid_argument("codes have 1, 2 or 4 bits");
  starts_.resize(1, 0);
  if (spill.empty()) return;
  codes_.spill(spill);
  token_centroids_.spill(spill);
}

MultiVector::~MultiVector() = default;

// Leaves in work.found the documents that the probed centroids lead to, with what they have there.
void MultiVector::probe(const float* tokens, std::size_t count, std::size_t probes, const std::uint8_t* hidden,
                        Workspace& work) const {
  work.begin(labels_.size(), count);
  work.scores.resize(count * centroid_count_);
  panels_.products(tokens, count, 1, work.scores.data());
  const std::uint32_t earlier = work.stamp;
  for (std::size_t t = 0; t < count; ++t) {
    const std::uint32_t now = ++work.stamp;
    largest(work.scores.data() + t * centroid_count_, centroid_count_, probes, work.near);
    const float last = work.near.back().score;
    for (const Near& one : work.near) {
      const float gain = one.score - last;
      const auto visit = [&](std::uint32_t document) {
        Workspace::Entry& entry = work.entries[document];
        if (entry.stamp == now) return;  // a nearer centroid has led here
        if (entry.stamp <= earlier) {
          entry.sum = 0.0f;
          work.touched.push_back(document);
        }
        entry.stamp = now;
        entry.sum += gain;
      };
      for (std::uint64_t i = list_offsets_[one.which]; i < list_offsets_[one.which + 1]; ++i) visit(lists_[i]);
      for (std::uint32_t document : recent_[one.which]) visit(document);
    }
  }
  for (std::uint32_t document : work.touched)
    if (!(hidden && hidden[document])) work.found.push_back({work.entries[document].sum, document});
}

void MultiVector::search_one(const float* tokens, std::size_t count, const MultiVectorSearch& how,
                             const std::uint8_t* hidden, const std::vector<std::uint32_t>* few, Workspace& work,
                             float* scores, std::int64_t* ids) const {
  const std::size_t wanted = std::max(how.candidates, how.k);
  work.found.clear();
  if (few && few->size() <= wanted) {
    for (std::uint32_t document : *few) work.found.push_back({0.0f, document});
  } else {
    probe(tokens, count, how.probes, hidden, work);
    if (work.found.size() < how.k) {  // the probes lead to fewer documents than are asked for
      work.found.clear();
      for (std::uint32_t document = 0; document < labels_.size(); ++document)
        if (!(hidden && hidden[document])) work.found.push_back({0.0f, document});
    } else {
      keep_first(work.found, wanted);
    }
  }
  const simd::MaxSimKernel kernel = simd::maxsim_kernel(simd::level());
  work.query.pack(tokens, count, dim_);
  work.decoded.resize(simd::kMaxSimRows * stride_);
  for (Near& one : work.found) {
    const std::uint64_t first = starts_[one.which];
    const auto row = [&](std::size_t i) {
      float* const out = work.decoded.data() + i % simd::kMaxSimRows * stride_;
      decode(first + i, kernel, out);
      return out;
    };
    one.score = work.query.score(tokens_of(one.which), kernel, row,
                                 [&](std::size_t i) { return codes_.data() + (first + i) * code_bytes_; });
  }
  const std::size_t found = std::min(how.k, work.found.size());
  std::partial_sort(work.found.begin(), work.found.begin() + static_cast<std::ptrdiff_t>(found), work.found.end(), nearer);
  for (std::size_t i = 0; i < found; ++i) {
    if (work.found[i].score == -std::numeric_limits<float>::infinity()) break;  // documents without tokens
    scores[i] = work.found[i].score;
    ids[i] = labels_[work.found[i].which];
  }
}

void MultiVector::search(const float* tokens, const std::int64_t* offsets, std::size_t count,
                         const MultiVectorSearch& how, const std::vector<std::int64_t>* allowed, float* scores,
                         std::int64_t* ids) const {
  std::fill(scores, scores + count * how.k, -std::numeric_limits<float>::infinity());
  std::fill(ids, ids + count * how.k, std::int64_t{-1});
  const auto lock = gate_.read();
  if (live_ == 0 || how.k == 0 || !trained()) return;

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
  MultiVectorSearch bounded = how;
  bounded.k = std::min(how.k, live_);
  bounded.candidates = std::min(how.candidates, live_);
  bounded.probes = std::clamp<std::size_t>(how.probes, 1, centroid_count_);

  std::vector<std::unique_ptr<Workspace>> work(std::max<std::size_t>(1, std::min(how.threads, count)));
  parallel_for(count, how.threads, [&](std::size_t worker, std::size_t q) {
    if (!work[worker]) work[worker] = borrow_workspace();
    const auto first = static_cast<std::size_t>(offsets[q]), tokens_here = static_cast<std::size_t>(offsets[q + 1]) - first;
    if (tokens_here == 0) return;
    search_one(tokens + first * dim_, tokens_here, bounded, hidden, allowed ? &few : nullptr, *work[worker],
               scores + q * how.k, ids + q * how.k);
  });
  const std::lock_guard idle_lock(idle_mutex_);
  for (auto& one : work)
    if (one && idle_.size() < 16) idle_.push_back(std::move(one));
}

std::unique_ptr<MultiVector::Workspace> MultiVector::borrow_workspace() const {
  const std::lock_guard lock(idle_mutex_);
  if (idle_.empty()) return std::make_unique<Workspace>();
  auto last = std::move(idle_.back());
  idle_.pop_back();
  return last;
}

}  // namespace seedbed::index

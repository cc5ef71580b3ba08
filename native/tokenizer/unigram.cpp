// Behind each byte of the word stands the best path that ends there: its score, and the last piece on it. From left to
// right each piece that begins at a character carries the best score there to its own end. Of equal scores the one that
// came first stays.
//
// A very long word goes through in stretches: as soon as all paths that are still open share their beginning, that
// beginning is put out and forgotten.
#include "tokenizer/unigram.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

constexpr std::size_t kStretch = std::size_t{1} << 15;

DoubleArray trie_of(const UnigramPieces& pieces) {
  std::vector<std::pair<std::string, std::uint32_t>> entries;
  entries.reserve(pieces.pieces.size());
  for (std::size_t id = 0; id < pieces.pieces.size(); ++id)
    entries.emplace_back(pieces.pieces[id], static_cast<std::uint32_t>(id));
  return DoubleArray(std::move(entries));
}

}  // namespace

template <class Real>
struct Unigram<Real>::Best {
  Real score = -std::numeric_limits<Real>::infinity();
  float slack = std::numeric_limits<float>::infinity();  // to the second best path to this place
  std::uint32_t length = 0;                              // of the last piece; 0: no path ends here
  std::uint32_t id = 0;

  void offer(Real other, std::uint32_t piece_length, std::uint32_t piece) {
    if (other > score) {
      *this = {other, static_cast<float>(other - score), piece_length, piece};
    } else {
      slack = std::min(slack, static_cast<float>(score - other));
    }
  }
};

template <class Real>
struct Unigram<Real>::Path final : PieceModel::Scratch {
  void shrink() override {
    if (nodes.capacity() > 4 * kStretch) nodes = {};
    if (pieces.capacity() > 4 * kStretch) pieces = {};
  }
  Best& at(std::size_t place) { return nodes[place - origin]; }
  const Best& at(std::size_t place) const { return nodes[place - origin]; }

  std::vector<Best> nodes;  // from the place `origin` on
  std::size_t origin = 0;
  std::vector<std::size_t> pieces;  // the ends of those on a path, the last first
};

// Pieces as they come become ids; unknown ones wait, as a row of them is one.
template <class Real>
class Unigram<Real>::Output {
 public:
  Output(const Unigram& model, std::string_view word, IdBuffer& ids, std::vector<Span>* spans)
      : model_(model), word_(word), ids_(ids), spans_(spans) {}

  void put(std::size_t from, std::size_t to, std::uint32_t id) {
    if (id == model_.pieces_.unknown_id) {
      if (!waiting_) unknown_from_ = from;
      waiting_ = true;
      unknown_to_ = to;
      met_unknown_ = true;
      return;
    }
    flush();
    put_id(id, {from, to});
  }
  void flush() {
    if (!waiting_) return;
    waiting_ = false;
    const Span span{unknown_from_, unknown_to_};
    const std::string_view text = word_.substr(span.from, span.to - span.from);
    const std::uint32_t known = model_.trie_.find(text);  // the unknown token itself, spelled out
    if (known != DoubleArray::kNone) return put_id(known, span);
    if (!model_.pieces_.byte_ids) return put_id(model_.pieces_.unknown_id, span);
    for (const char c : text) {
      if (c == ' ') {
        for (const char part : model_.pieces_.space) put_byte(part, span);
      } else {
        put_byte(c, span);
      }
    }
  }
  bool met_unknown() const { return met_unknown_; }

 private:
  void put_byte(char byte, Span span) { put_id((*model_.pieces_.byte_ids)[static_cast<std::uint8_t>(byte)], span); }
  void put_id(std::uint32_t id, Span span) {
    ids_.push(id);
    if (spans_) spans_->push_back(span);
  }

  const Unigram& model_;
  std::string_view word_;
  IdBuffer& ids_;
  std::vector<Span>* spans_;
  bool waiting_ = false, met_unknown_ = false;
  std::size_t unknown_from_ = 0, unknown_to_ = 0;
};

template <class Real>
Unigram<Real>::Unigram(UnigramPieces pieces, bool contextual)
    : pieces_(std::move(pieces)), trie_(trie_of(pieces_)), contextual_(contextual) {
  const std::size_t size = pieces_.pieces.size();
  if (pieces_.scores.size() != size) throw std::invalid_argument("pieces and scores differ in number");
  if (pieces_.unknown_id >= size) throw std::invalid_argument("the id of unknown pieces is out of range");
  if (pieces_.byte_ids)
    for (const std::uint32_t id : *pieces_.byte_ids)
      if (id >= size) throw std::invalid_argument("the id of a byte is out of range");
  largest_ = std::abs(pieces_.unknown_score);
  // A space that is unknown would be one with what stands before it.
  cuts_at_spaces_ = trie_.find(" ") != DoubleArray::kNone && trie_.find(" ") != pieces_.unknown_id;
  for (std::size_t id = 0; id < size; ++id) {
    longest_ = std::max(longest_, pieces_.pieces[id].size());
    largest_ = std::max(largest_, std::abs(pieces_.scores[id]));
    cuts_at_spaces_ &= !has_inner_space(pieces_.pieces[id]);
  }
  if (!std::isfinite(largest_)) throw std::invalid_argument("a score is not finite");
}

template <class Real>
std::unique_ptr<PieceModel::Scratch> Unigram<Real>::new_scratch() const {
  return std::make_unique<Path>();
}

// How far two sums over a word can move against each other by rounding, when they go on from `score`.
template <class Real>
double Unigram<Real>::rounding(std::size_t word_size, double score) const {
  const double n = static_cast<double>(word_size + 2);
  return n * std::numeric_limits<Real>::epsilon() * (std::abs(score) + n * largest_);
}

template <class Real>
bool Unigram<Real>::follows(std::size_t word_size, float slack, std::span<const std::uint32_t> ids,
                            double& score) const {
  if (!(slack > rounding(word_size, score))) return false;
  Real sum = static_cast<Real>(score);
  for (const std::uint32_t id : ids) sum = static_cast<Real>(sum + pieces_.scores[id]);
  score = sum;
  return true;
}

template <class Real>
void Unigram<Real>::encode(std::string_view word, Context& context, Scratch& scratch, IdBuffer& ids,
                           std::vector<Span>* spans) const {
  Path& path = static_cast<Path&>(scratch);
  Output output(*this, word, ids, spans);
  path.origin = 0;
  path.nodes.assign(std::min(word.size(), kStretch + longest_) + 1, Best{});
  path.nodes[0].score = static_cast<Real>(context.score);
  float slack = std::numeric_limits<float>::infinity();
  std::size_t next_flush = kStretch;
  for (std::size_t at = 0; at < word.size();) {
    if (at >= next_flush) {
      const std::size_t to = settled(at, path);
      slack = std::min(slack, put(to, path, output));
      path.nodes.erase(path.nodes.begin(), path.nodes.begin() + static_cast<std::ptrdiff_t>(to - path.origin));
      path.origin = to;
      next_flush = at + std::max(kStretch, at - to);
      path.nodes.resize(std::min(word.size(), next_flush + longest_) - to + 1);
    }
    extend(word, at, path);
    at += character_length(word, at);
  }
  const Real end = path.at(word.size()).score;
  slack = std::min(slack, put(word.size(), path, output));
  output.flush();
  // A row of unknown characters is one id, from which its score cannot be told again.
  context.slack = output.met_unknown() ? -1 : slack - static_cast<float>(rounding(word.size(), context.score));
  context.score = end;
}

// Carries the score at a place to the ends of all pieces that begin there.
template <class Real>
void Unigram<Real>::extend(std::string_view word, std::size_t at, Path& path) const {
  Best* const best = &path.at(at);
  const Real here = best->score;
  const double* const scores = pieces_.scores.data();
  const auto single = static_cast<std::uint32_t>(character_length(word, at));
  bool has_single = false;
  trie_.prefixes(word.data() + at, word.data() + word.size(), [&](std::uint32_t length, std::uint32_t id) {
    best[length].offer(static_cast<Real>(here + scores[id]), length, id);
    has_single |= length == single;
  });
  if (!has_single)
    best[single].offer(static_cast<Real>(here + pieces_.unknown_score), single, pieces_.unknown_id);
}

// The last place up to which all paths that can still win are one.
template <class Real>
std::size_t Unigram<Real>::settled(std::size_t at, const Path& path) const {
  std::set<std::size_t> open{at};
  const std::size_t reach = path.origin + path.nodes.size() - 1;
  for (std::size_t place = at + 1; place <= std::min(reach, at + longest_); ++place)
    if (path.at(place).length) open.insert(place - path.at(place).length);
  while (open.size() > 1) {
    const std::size_t last = *open.rbegin();
    open.erase(last);
    open.insert(last - path.at(last).length);
  }
  return *open.begin();
}

// Puts out the path from the origin to a place; returns its slack.
template <class Real>
float Unigram<Real>::put(std::size_t to, Path& path, Output& output) const {
  float slack = std::numeric_limits<float>::infinity();
  path.pieces.clear();
  for (std::size_t end = to; end > path.origin; end -= path.at(end).length) {
    path.pieces.push_back(end);
    slack = std::min(slack, path.at(end).slack);
  }
  for (std::size_t i = path.pieces.size(); i-- > 0;) {
    const Best& best = path.at(path.pieces[i]);
    output.put(path.pieces[i] - best.length, path.pieces[i], best.id);
  }
  return slack;
}

template class Unigram<float>;
template class Unigram<double>;

}  // namespace seedbed::tokenizer

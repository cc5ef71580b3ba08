#include <cmath>
#include <limits>
#include <numeric>

#include "index/admitted.hpp"
#include "index/exact.hpp"
#include "index/ivf.hpp"
#include "index/parallel.hpp"
#include "simd/bytes.hpp"
#include "simd/fastscan.hpp"
#include "simd/tables.hpp"

namespace seedbed::index {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kQueries = 48;  // that share one reading of the centroids
constexpr std::size_t kPiece = 1024;  // vectors of a list that are scored before they are compared

}  // namespace

// One query and what is found for it.
struct Ivf::Asking {
  const float* coarse = nullptr;  // its products with the centroids
  Array<float> query;             // padded, not shifted: for the vectors themselves
  ProductCodes::Tables tables;
  std::vector<std::int8_t> bytes;
  float scale = 1, offset = 0;    // from products of bytes to estimates of q.y
  std::vector<std::uint32_t> lists;
  Best best;
};

struct Ivf::Space {
  simd::TableKernel kernel = simd::table_kernel(simd::level());
  simd::ByteKernel bytes_kernel = simd::byte_kernel(simd::level());
  std::vector<float> shifted, coarse, turned;  // of a group of queries
  std::vector<Asking> asking;
  std::vector<std::uint32_t> starts, askers;   // by list: which queries look into it
  std::vector<float> scores, kept;
  std::vector<std::uint32_t> where;
  Best lists;
};

struct Ivf::Filter : Admitted {
  std::vector<std::uint32_t> held;  // how many by list
};

void Ivf::search(const float* queries, std::size_t count, const IvfSearch& search, const std::vector<std::int64_t>* allowed,
                 std::size_t threads, float* distances, std::int64_t* ids) const {
  std::fill(distances, distances + count * search.k, shape_.l2 ? kInfinity : -kInfinity);
  std::fill(ids, ids + count * search.k, std::int64_t{-1});
  const auto lock = gate_.read();
  if (labels_.size() == 0 || search.k == 0 || count == 0) return;
  Filter filter;
  if (allowed) {
    need_label_map();
    filter = {admitted(*allowed, map_, labels_), std::vector<std::uint32_t>(lists_.size(), 0)};
    for (std::uint32_t slot : filter.slots) ++filter.held[list_of_[slot]];
    if (filter.slots.empty()) return;
  }
  threads = std::max<std::size_t>(1, threads);
  const std::size_t group = std::min(kQueries, (count + threads - 1) / threads);
  std::vector<Space> spaces(std::min(threads, count));
  parallel_for((count + group - 1) / group, spaces.size(), [&](std::size_t worker, std::size_t i) {
    const std::size_t first = i * group;
    search_group(queries + first * shape_.dim, std::min(group, count - first), search, allowed ? &filter : nullptr,
                 spaces[worker], distances + first * search.k, ids + first * search.k);
  });
}

void Ivf::search_group(const float* queries, std::size_t count, const IvfSearch& search, const Filter* filter,
                       Space& space, float* distances, std::int64_t* ids) const {
  const std::size_t dim = shape_.dim, width = product_.dim();
  const bool exact = search.exact || shape_.codes == Codes::None;
  space.shifted.resize(count * dim);
  for (std::size_t i = 0; i < count * dim; ++i) space.shifted[i] = queries[i] - origin_[i % dim];
  space.coarse.resize(count * lists_.size());
  coarse_.products(space.shifted.data(), count, 1, space.coarse.data());
  if (shape_.codes == Codes::Product && !exact) {
    space.turned.assign(count * width, 0.0f);
    if (rotation_.size()) rotating_.products(space.shifted.data(), count, 1, space.turned.data());
    else
      for (std::size_t i = 0; i < count; ++i) std::copy_n(space.shifted.data() + i * dim, dim, space.turned.data() + i * width);
  }
  space.scores.resize(kPiece);
  space.kept.resize(kPiece + 16);
  space.where.resize(kPiece + 16);
  space.asking.resize(std::max(space.asking.size(), count));
  std::vector<std::uint8_t> again(count);
  for (std::size_t i = 0; i < count; ++i) {
    Asking& asking = space.asking[i];
    asking.coarse = space.coarse.data() + i * lists_.size();
    asking.query.resize(stride(), 0.0f);
    std::copy_n(queries + i * dim, dim, asking.query.writable());
    if (!exact && shape_.codes == Codes::Product) product_.prepare(space.turned.data() + i * width, asking.tables);
    else if (!exact) prepare_bytes(asking, space.shifted.data() + i * dim);
    again[i] = !exact && search.candidates > 0 && shape_.vectors;
    asking.best.start(again[i] ? std::max(search.candidates, search.k) : search.k);
    again[i] |= plan(space, asking, search, filter);
  }
  scan_all(space, count, filter, exact);
  for (std::size_t i = 0; i < count; ++i) {
    Asking& asking = space.asking[i];
    if (again[i]) rank_again(asking);
    emit(asking, search.k, exact || again[i], space.shifted.data() + i * dim, distances + i * search.k, ids + i * search.k);
  }
}

// The nearest lists first, since they show early what is good enough; then list by list for all that look into it, so that a
// list is read once. The order in which a query sees its lists does not depend on the others.
void Ivf::scan_all(Space& space, std::size_t count, const Filter* filter, bool exact) const {
  constexpr std::size_t first = 4;
  space.starts.assign(lists_.size() + 1, 0);
  for (std::size_t i = 0; i < count; ++i) {
    Asking& asking = space.asking[i];
    for (std::size_t j = 0; j < std::min(first, asking.lists.size()); ++j) scan(space, asking, asking.lists[j], filter, exact);
    for (std::size_t j = first; j < asking.lists.size(); ++j) ++space.starts[asking.lists[j] + 1];
  }
  std::partial_sum(space.starts.begin(), space.starts.end(), space.starts.begin());
  space.askers.resize(space.starts.back());
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = first; j < space.asking[i].lists.size(); ++j)
      space.askers[space.starts[space.asking[i].lists[j]]++] = static_cast<std::uint32_t>(i);
  for (std::size_t list = 0, at = 0; list < lists_.size(); ++list)  // each start has moved to its end
    for (; at < space.starts[list]; ++at)
      scan(space, space.asking[space.askers[at]], static_cast<std::uint32_t>(list), filter, exact);
}

// A query as signed bytes: q is about step * whole, and q.(code - 128) follows from q.code.
void Ivf::prepare_bytes(Asking& asking, const float* query) const {
  float largest = 0;
  for (std::size_t d = 0; d < shape_.dim; ++d) largest = std::max(largest, std::abs(query[d]));
  const float factor = largest > 0 ? 127 / largest : 0;
  asking.bytes.assign(bytes_per_code(), 0);
  std::int64_t sum = 0;
  for (std::size_t d = 0; d < shape_.dim; ++d) {
    asking.bytes[d] = static_cast<std::int8_t>(std::lround(query[d] * factor));
    sum += asking.bytes[d];
  }
  asking.scale = largest / 127;
  asking.offset = -128 * static_cast<float>(sum) * asking.scale;
}

// Chooses asking.lists. True if there is nothing to scan: all that is admitted stands in asking.best, still to be ranked.
bool Ivf::plan(Space& space, Asking& asking, const IvfSearch& search, const Filter* filter) const {
  const std::size_t lists = lists_.size(), probes = std::min(search.probes, lists);
  const std::size_t within = filter ? filter->slots.size() : labels_.size();
  asking.lists.clear();
  std::size_t wanted = probes;
  if (filter) {
    // Where the usual effort pays for all that is admitted, nothing is left to chance.
    if (shape_.vectors && within * lists <= std::max(probes * labels_.size(), lists * search.k)) {
      asking.best.start(within);
      for (std::uint32_t slot : filter->slots) asking.best.push({0.0f, list_of_[slot], place_[slot]});
      return true;
    }
    // Fewer vectors have their nearest farther away.
    const double selectivity = static_cast<double>(within) / static_cast<double>(labels_.size());
    wanted = std::min(lists, static_cast<std::size_t>(std::ceil(static_cast<double>(probes) / std::sqrt(selectivity))));
  }
  const std::size_t needed = std::min(within, std::max(search.k, search.candidates));
  const auto held = [&](std::uint32_t list) { return filter ? filter->held[list] : lists_[list].size(); };
  for (std::size_t keep = filter ? lists : wanted;; keep = lists) {  // again with all lists where the first hold too little
    order_lists(space, asking.coarse, keep);
    std::vector<Candidate>& order = space.lists.finish();
    std::sort(order.begin(), order.end(), [](const Candidate& a, const Candidate& b) {
      return a.score > b.score || (a.score == b.score && a.list < b.list);
    });
    std::size_t seen = 0;
    asking.lists.clear();
    for (std::size_t i = 0; i < order.size() && (asking.lists.size() < wanted || seen < needed); ++i) {
      if (held(order[i].list) == 0) continue;
      asking.lists.push_back(order[i].list);
      seen += held(order[i].list);
    }
    if (seen >= needed || keep == lists) return false;
  }
}

void Ivf::order_lists(Space& space, const float* coarse, std::size_t keep) const {
  const std::size_t lists = lists_.size();
  space.lists.start(keep);
  for (std::size_t first = 0; first < lists; first += kPiece) {
    const std::size_t here = std::min(kPiece, lists - first);
    const std::size_t found =
        space.kernel.select(coarse + first, shape_.l2 ? halves_.data() + first : nullptr, here, space.lists.least(),
                            space.where.data(), space.kept.data());
    for (std::size_t i = 0; i < found; ++i)
      if (space.kept[i] > space.lists.least())
        space.lists.push({space.kept[i], static_cast<std::uint32_t>(first + space.where[i]), 0});
  }
}

void Ivf::scan(Space& space, Asking& asking, std::uint32_t number, const Filter* filter, bool exact) const {
  const float base = asking.coarse[number];
  const List& list = lists_[number];
  const auto push = [&](float score, std::size_t position) {
    if (!(score > asking.best.least())) return;  // it has risen meanwhile
    if (filter && !filter->mask[list.slots[position]]) return;
    asking.best.push({score, number, static_cast<std::uint32_t>(position)});
  };
  if (!exact && shape_.codes == Codes::Product) return scan_blocks(asking, list, base, push);
  for (std::size_t first = 0; first < list.size(); first += kPiece) {
    const std::size_t here = std::min(kPiece, list.size() - first);
    if (exact)
      ExactScore(shape_.l2).each(
          asking.query.data(), stride(), here, [&](std::size_t i) { return list.vectors.data() + (first + i) * stride(); },
          [&](std::size_t i, float score) { space.scores[i] = score; });
    else
      score_bytes(space, asking, list, first, here, base);
    const std::size_t found = space.kernel.select(space.scores.data(), nullptr, here, asking.best.least(), space.where.data(),
                                                  space.kept.data());
    for (std::size_t i = 0; i < found; ++i) push(space.kept[i], first + space.where[i]);
  }
}

template <class Push>
void Ivf::scan_blocks(Asking& asking, const List& list, float base, const Push& push) const {
  static constexpr float none[simd::kMembers] = {};
  const std::size_t size = list.size(), bytes = product_.block_bytes();
  float values[simd::kMembers];
  for (std::size_t first = 0; first < size; first += simd::kMembers) {
    std::uint32_t good = product_.estimates(
        asking.tables, list.codes.data() + first / simd::kMembers * bytes, with_adds() ? list.adds.data() + first : none,
        list.scales.data() + first, -base, -asking.best.least(), values);
    if (size - first < simd::kMembers) good &= (1u << (size - first)) - 1;
    for (; good; good &= good - 1) {
      const auto i = static_cast<std::size_t>(__builtin_ctz(good));
      push(-values[i], first + i);
    }
  }
}

void Ivf::score_bytes(Space& space, const Asking& asking, const List& list, std::size_t first, std::size_t count, float base) const {
  const std::size_t bytes = bytes_per_code();
  for (std::size_t i = 0; i < count; i += 4) {
    const std::uint8_t* four[4];
    for (std::size_t j = 0; j < 4; ++j) four[j] = list.codes.data() + (first + std::min(i + j, count - 1)) * bytes;
    std::int32_t products[4];
    space.bytes_kernel.four(asking.bytes.data(), four, bytes, products);
    for (std::size_t j = 0; j < 4 && i + j < count; ++j) {
      const std::size_t at = first + i + j;
      const float product = asking.scale * static_cast<float>(products[j]) + asking.offset;
      space.scores[i + j] = base - list.scales[at] * product - (with_adds() ? list.adds[at] : 0.0f);
    }
  }
}

void Ivf::rank_again(Asking& asking) const {
  std::vector<Candidate>& pool = asking.best.finish();
  std::sort(pool.begin(), pool.end(), [](const Candidate& a, const Candidate& b) {
    return a.list < b.list || (a.list == b.list && a.position < b.position);
  });
  ExactScore(shape_.l2).each(
      asking.query.data(), stride(), pool.size(),
      [&](std::size_t i) { return lists_[pool[i].list].vectors.data() + pool[i].position * stride(); },
      [&](std::size_t i, float score) { pool[i].score = score; });
}

void Ivf::emit(Asking& asking, std::size_t k, bool exact, const float* shifted, float* distances, std::int64_t* ids) const {
  std::vector<Candidate>& pool = asking.best.finish();
  const auto label = [&](const Candidate& one) { return labels_[lists_[one.list].slots[one.position]]; };
  const auto better = [&](const Candidate& a, const Candidate& b) {
    return a.score > b.score || (a.score == b.score && label(a) < label(b));
  };
  const std::size_t found = std::min(k, pool.size());
  std::partial_sort(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(found), pool.end(), better);
  const float square = std::inner_product(shifted, shifted + shape_.dim, shifted, 0.0f);
  for (std::size_t i = 0; i < found; ++i) {
    const float score = pool[i].score;
    distances[i] = !shape_.l2 ? score : exact ? -score : std::max(0.0f, square - 2 * score);
    ids[i] = label(pool[i]);
  }
}

}  // namespace seedbed::index

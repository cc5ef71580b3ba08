// Symbols lie in a linked list and joinable pairs in a heap: a pair enters when it comes into being and is checked when
// it comes up, so a word of n characters costs O(n log n) time and O(n) memory.
#include "tokenizer/character_bpe.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <unordered_map>

#include "tokenizer/unicode.hpp"

namespace seedbed::tokenizer {
namespace {

constexpr std::uint32_t kNone = ~std::uint32_t{0};

// Characters that stand in pieces but are none themselves.
std::vector<std::string> letters_of(const CharacterPieces& pieces) {
  std::unordered_map<std::string_view, bool> known;
  for (const std::string& piece : pieces.pieces) known.emplace(piece, true);
  std::vector<std::string> letters;
  for (const std::string& piece : pieces.pieces)
    for (std::size_t at = 0; at < piece.size(); at += character_length(piece, at)) {
      const std::string_view letter = std::string_view(piece).substr(at, character_length(piece, at));
      if (known.emplace(letter, true).second) letters.emplace_back(letter);
    }
  return letters;
}

DoubleArray starts_of(const CharacterPieces& pieces, const std::vector<std::string>& letters) {
  std::vector<std::pair<std::string, std::uint32_t>> entries;
  const auto size = static_cast<std::uint32_t>(pieces.pieces.size());
  for (std::uint32_t i = 0; i < letters.size(); ++i) entries.emplace_back(letters[i], size + i);
  for (std::uint32_t id = 0; id < size; ++id) {
    const std::string& piece = pieces.pieces[id];
    if (!piece.empty() && (pieces.whole[id] || character_length(piece, 0) == piece.size())) entries.emplace_back(piece, id);
  }
  return DoubleArray(std::move(entries));
}

}  // namespace

struct CharacterBpe::Symbols final : PieceModel::Scratch {
  struct Symbol {
    std::uint32_t id, previous, next;
    std::size_t from, to;
  };
  void shrink() override {
    constexpr std::size_t kMost = std::size_t{1} << 16;
    if (all.capacity() > kMost) all = {};
    if (heap.capacity() > kMost) heap = {};
  }
  std::vector<Symbol> all;
  std::vector<std::uint64_t> heap;  // rank << 32 | position: the smallest is the first rank, then the leftmost
  std::unordered_map<std::uint32_t, Pair> parts;  // of unused pieces, the last pair that was met
};

CharacterBpe::CharacterBpe(CharacterPieces pieces)
    : pieces_(std::move(pieces)), letters_(letters_of(pieces_)), starts_(starts_of(pieces_, letters_)) {
  const std::size_t size = pieces_.pieces.size();
  if (pieces_.unknown_id >= size) throw std::invalid_argument("the id of unknown pieces is out of range");
  if (pieces_.byte_ids)
    for (const std::uint32_t id : *pieces_.byte_ids)
      if (id >= size) throw std::invalid_argument("the id of a byte is out of range");
  const std::uint32_t space = starts_.find(" ");
  cuts_at_spaces_ = space < size && space != pieces_.unknown_id;  // an unknown one would be one with what stands before
  for (const std::string& piece : pieces_.pieces) cuts_at_spaces_ &= !has_inner_space(piece);
}

CharacterBpe::CharacterBpe(CharacterPieces pieces, const std::vector<double>& scores)
    : CharacterBpe(std::move(pieces)) {
  const auto size = static_cast<std::uint32_t>(pieces_.pieces.size());
  if (scores.size() != size) throw std::invalid_argument("pieces and scores differ in number");
  std::unordered_map<std::string_view, std::uint32_t> ids;
  for (std::uint32_t i = 0; i < letters_.size(); ++i) ids.emplace(letters_[i], size + i);
  for (std::uint32_t id = 0; id < size; ++id)
    if (!pieces_.pieces[id].empty() && !pieces_.whole[id]) ids.insert_or_assign(pieces_.pieces[id], id);
  std::vector<double> sorted = scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (std::uint32_t id = 0; id < size; ++id) {
    const std::string_view piece = pieces_.pieces[id];
    if (pieces_.whole[id] || piece.empty()) continue;
    const auto rank = static_cast<std::uint32_t>(
        std::lower_bound(sorted.begin(), sorted.end(), scores[id], std::greater<>()) - sorted.begin());
    for (std::size_t cut = character_length(piece, 0); cut < piece.size(); cut += character_length(piece, cut)) {
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left != ids.end() && right != ids.end()) rules_[pair_of(left->second, right->second)] = {rank, id};
    }
  }
}

CharacterBpe::CharacterBpe(CharacterPieces pieces, const std::vector<Merge>& merges) : CharacterBpe(std::move(pieces)) {
  const std::size_t size = pieces_.pieces.size();
  for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    if (merge.left >= size || merge.right >= size || merge.result >= size)
      throw std::invalid_argument("merge " + std::to_string(rank) + " names an id out of range");
    rules_[pair_of(merge.left, merge.right)] = {rank, merge.result};
  }
}

std::unique_ptr<PieceModel::Scratch> CharacterBpe::new_scratch() const { return std::make_unique<Symbols>(); }

void CharacterBpe::encode(std::string_view word, Context&, Scratch& scratch, IdBuffer& ids,
                          std::vector<Span>* spans) const {
  if (word.size() >= kNone) throw std::length_error("a piece of text of 4 GiB without a cut cannot be encoded");
  Symbols& symbols = static_cast<Symbols&>(scratch);
  read(word, symbols);
  join(symbols);
  put(word, symbols, ids, spans);
}

void CharacterBpe::read(std::string_view word, Symbols& symbols) const {
  symbols.all.clear();
  symbols.heap.clear();
  if (!symbols.parts.empty()) symbols.parts.clear();
  for (std::size_t at = 0; at < word.size();) {
    std::size_t length = character_length(word, at);
    auto id = static_cast<std::uint32_t>(pieces_.pieces.size() + letters_.size());  // of all that no piece holds
    std::size_t found = 0;
    starts_.prefixes(word.data() + at, word.data() + word.size(), [&](std::uint32_t size, std::uint32_t value) {
      if (size == length || (value < pieces_.whole.size() && pieces_.whole[value])) found = size, id = value;
    });
    if (found) length = found;
    const auto here = static_cast<std::uint32_t>(symbols.all.size());
    symbols.all.push_back({id, here - 1, here + 1, at, at + length});
    at += length;
  }
  symbols.all.front().previous = kNone;
  symbols.all.back().next = kNone;
}

void CharacterBpe::join(Symbols& symbols) const {
  auto& all = symbols.all;
  auto& heap = symbols.heap;
  const auto rule_at = [&](std::uint32_t i) -> const JoinRule* {
    return all[i].next == kNone ? nullptr : rules_.find(pair_of(all[i].id, all[all[i].next].id));
  };
  const auto offer = [&](std::uint32_t i) {
    const JoinRule* rule = rule_at(i);
    if (!rule) return false;
    heap.push_back(std::uint64_t{rule->rank} << 32 | i);
    if (pieces_.unused[rule->result]) symbols.parts[rule->result] = pair_of(all[i].id, all[all[i].next].id);
    return true;
  };
  for (std::uint32_t i = 0; i < all.size(); ++i) offer(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto position = static_cast<std::uint32_t>(heap.back());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (all[position].from == all[position].to) continue;  // swallowed by its left neighbour
    const JoinRule* rule = rule_at(position);
    if (!rule || rule->rank != rank) continue;  // one of the two has grown since
    const std::uint32_t swallowed = all[position].next, after = all[swallowed].next;
    all[position].id = rule->result;
    all[position].next = after;
    all[position].to = all[swallowed].to;
    all[swallowed].from = all[swallowed].to;
    if (after != kNone) all[after].previous = position;
    for (const std::uint32_t i : {all[position].previous, position})
      if (i != kNone && offer(i)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
}

void CharacterBpe::put(std::string_view word, const Symbols& symbols, IdBuffer& ids, std::vector<Span>* spans) const {
  const auto put_id = [&](std::uint32_t id, Span span) {
    ids.push(id);
    if (spans) spans->push_back(span);
  };
  bool behind_unknown = false;
  std::vector<std::uint32_t> open;  // parts of an unused piece, the first on top
  for (std::uint32_t i = 0; i != kNone; i = symbols.all[i].next) {
    const Symbols::Symbol& symbol = symbols.all[i];
    std::size_t from = symbol.from;
    for (open.assign(1, symbol.id); !open.empty();) {
      const std::uint32_t id = open.back();
      open.pop_back();
      const bool known = id < pieces_.pieces.size();
      if (known && pieces_.unused[id]) {
        if (const auto parts = symbols.parts.find(id); parts != symbols.parts.end()) {
          open.push_back(right_of(parts->second));
          open.push_back(left_of(parts->second));
          continue;
        }
      }
      const std::size_t size = known ? pieces_.pieces[id].size() : character_length(word, from);
      const Span span{from, from + size};
      from += size;
      if (known) {
        behind_unknown = false;
        put_id(id, span);
      } else if (pieces_.byte_ids) {
        const std::string_view text = word.substr(span.from, size) == " " ? pieces_.space : word.substr(span.from, size);
        for (const char byte : text) put_id((*pieces_.byte_ids)[static_cast<std::uint8_t>(byte)], span);
      } else if (behind_unknown && pieces_.fuses_unknown) {
        if (spans) spans->back().to = span.to;
      } else {
        behind_unknown = true;
        put_id(pieces_.unknown_id, span);
      }
    }
  }
}

}  // namespace seedbed::tokenizer

#include "text/shingles.hpp"

#include <algorithm>
#include <array>

#include "text/characters.hpp"
#include "tokenizer/unicode.hpp"
#include "tokenizer/unicode_forms.hpp"

namespace seedbed::text {
namespace {

// Lower case of an ASCII letter or digit; 0 for what parts words.
constexpr std::array<std::uint8_t, 128> make_ascii() {
  std::array<std::uint8_t, 128> table{};
  for (std::uint8_t c = 0; c < 128; ++c)
    table[c] = c >= '0' && c <= '9' ? c : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? c | 0x20 : 0;
  return table;
}
constexpr auto kAscii = make_ascii();

// One word under way: eight bytes are mixed at a time.
struct WordHash {
  std::uint64_t value = 0, pending = 0;
  unsigned bytes = 0, length = 0;
  void add(std::uint8_t byte) {
    pending = pending << 8 | byte;
    ++length;
    if (++bytes == 8) {
      value = mix(value, pending);
      pending = bytes = 0;
    }
  }
  void add_code(std::uint32_t code) {
    for (; code; code >>= 8) add(static_cast<std::uint8_t>(code));
  }
  std::uint64_t finish() { return mix(value ^ length, pending); }
};

constexpr std::uint64_t kBase = 0x9E6C63D0876A9A47u;

std::uint32_t finished(std::uint64_t hash) { return static_cast<std::uint32_t>(mix(hash, 0x2545F4914F6CDD1Du) >> 32); }

}  // namespace

void Shingler::read_words(std::string_view text) {
  words_.clear();
  WordHash word;
  const auto end_word = [&] {
    if (word.length) words_.push_back(word.finish());
    word = WordHash{};
  };
  const char *p = text.data(), *const end = p + text.size();
  while (p < end) {
    const auto byte = static_cast<std::uint8_t>(*p);
    if (byte < 128) {
      ++p;
      if (const std::uint8_t lower = kAscii[byte]) {
        word.add(lower);
      } else if (word.length) {
        end_word();
      }
      continue;
    }
    const tokenizer::CodePoint code = tokenizer::read_code_point(p, end);
    p += code.length;
    constexpr std::uint8_t kPart = tokenizer::kLetter | tokenizer::kMark | tokenizer::kNumber;
    if (code.value >= tokenizer::CodePoint::kBytes || !(tokenizer::class_of(code.value) & kPart)) {
      end_word();
    } else if (is_spaceless(code.value)) {
      end_word();
      word.add_code(code.value);
      end_word();
    } else if (tokenizer::kind_of(code.value).flags & tokenizer::kCased) {
      for (const std::uint32_t lower : tokenizer::lower_case(code.value)) word.add_code(lower);
    } else {
      word.add_code(code.value);
    }
  }
  end_word();
}

const std::vector<std::uint32_t>& Shingler::read(std::string_view text) {
  read_words(text);
  shingles_.clear();
  std::uint64_t leaving = 1;
  for (std::size_t k = 0; k < n_; ++k) leaving *= kBase;
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < words_.size(); ++i) {
    hash = hash * kBase + words_[i];
    if (i >= n_) hash -= words_[i - n_] * leaving;
    if (i + 1 >= n_) shingles_.push_back(finished(hash));
  }
  if (shingles_.empty() && !words_.empty()) shingles_.push_back(finished(hash));
  return shingles_;
}

double SetSimilarity::jaccard(const std::uint32_t* a, std::size_t a_size, const std::uint32_t* b, std::size_t b_size) {
  std::size_t capacity = 64;
  while (capacity < 2 * (a_size + b_size)) capacity *= 2;
  if (slots_.size() < capacity) slots_.assign(capacity, Slot{0, 0});
  if (++epoch_ >= (1u << 30)) {
    std::fill(slots_.begin(), slots_.end(), Slot{0, 0});
    epoch_ = 1;
  }
  constexpr std::uint32_t kInA = 1, kInB = 2;
  const std::size_t mask = capacity - 1;
  std::size_t all = 0, both = 0;
  const auto slot_of = [&](std::uint32_t value) -> Slot& {
    for (std::size_t i = value & mask;; i = (i + 1) & mask)
      if (slots_[i].epoch_and_side >> 2 != epoch_ || slots_[i].value == value) return slots_[i];
  };
  for (std::size_t i = 0; i < a_size; ++i) {
    Slot& slot = slot_of(a[i]);
    if (slot.epoch_and_side >> 2 == epoch_) continue;
    slot = {a[i], epoch_ << 2 | kInA};
    ++all;
  }
  for (std::size_t i = 0; i < b_size; ++i) {
    Slot& slot = slot_of(b[i]);
    if (slot.epoch_and_side >> 2 != epoch_) {
      slot = {b[i], epoch_ << 2 | kInB};
      ++all;
    } else if (!(slot.epoch_and_side & kInB)) {
      slot.epoch_and_side |= kInB;
      ++both;
    }
  }
  return all ? static_cast<double>(both) / static_cast<double>(all) : 0.0;
}

}  // namespace seedbed::text

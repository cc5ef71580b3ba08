#include "text/shingles.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "text/characters.hpp"
#include "tokenizer/unicode.hpp"
#include "tokenizer/unicode_forms.hpp"

namespace seedbed::text {
namespace {

constexpr std::uint64_t bytes_of(std::uint8_t byte) { return 0x0101010101010101u * byte; }
constexpr std::uint64_t kHighBits = bytes_of(0x80);
constexpr std::size_t kBlock = 64;
static_assert(std::endian::native == std::endian::little);

// Up to eight bytes, the first lowest; zeros beyond the end.
std::uint64_t load(const char* from, const char* end) {
  std::uint64_t bytes = 0;
  if (end - from >= 8) {
    std::memcpy(&bytes, from, 8);
  } else {
    std::memcpy(&bytes, from, static_cast<std::size_t>(end - from));
  }
  return bytes;
}

// Bit i says that byte i of eight ASCII ones is a letter or digit. Sums of seven bits compare without a carry.
std::uint64_t word_bits(std::uint64_t bytes) {
  const auto between = [](std::uint64_t value, std::uint8_t low, std::uint8_t high) {
    return (value + bytes_of(static_cast<std::uint8_t>(0x80 - low))) &
           ~(value + bytes_of(static_cast<std::uint8_t>(0x7F - high)));
  };
  const std::uint64_t found = (between(bytes | bytes_of(0x20), 'a', 'z') | between(bytes, '0', '9')) & kHighBits;
  return (found >> 7) * 0x0102040810204080u >> 56;
}

bool is_word_byte(std::uint8_t byte) { return word_bits(byte) != 0; }

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

constexpr std::size_t kShort = 8;  // bytes that a short word has fewer of

// WordHash of a short word of ASCII letters and digits, all of which | 0x20 brings to lower case. Eight bytes are read.
inline std::uint64_t hash_short(const char* from, std::size_t length) {
  std::uint64_t bytes;
  std::memcpy(&bytes, from, kShort);
  return mix(length, __builtin_bswap64(bytes | bytes_of(0x20)) >> (64 - 8 * length));
}

std::uint64_t hash_word(const char* from, const char* to) {
  WordHash word;
  for (; from < to; ++from) word.add(static_cast<std::uint8_t>(*from) | 0x20);
  return word.finish();
}

constexpr std::uint64_t kBase = 0x9E6C63D0876A9A47u;

std::uint32_t finished(std::uint64_t hash) { return static_cast<std::uint32_t>(mix(hash, 0x2545F4914F6CDD1Du) >> 32); }

}  // namespace

void Shingler::read_words(std::string_view text) {
  count_ = 0;
  const char *p = text.data(), *const end = p + text.size();
  while (p < end) {
    p = read_ascii(p, end);
    p = read_any(p, end);
  }
}

void Shingler::make_room(std::size_t more) {
  if (count_ + more > words_.size()) words_.resize(std::max(2 * words_.size(), count_ + more));
}

// Words of ASCII alone, a block at a time; returns where a word begins that holds, or meets, another character.
const char* Shingler::read_ascii(const char* p, const char* end) {
  const char* open = nullptr;  // a word that reached the end of the last block
  const auto hash = [end](const char* from, const char* to) {
    const auto length = static_cast<std::size_t>(to - from);
    return length < kShort && static_cast<std::size_t>(end - from) >= kShort ? hash_short(from, length)
                                                                             : hash_word(from, to);
  };
  for (; p < end; p += kBlock) {
    const auto size = std::min(kBlock, static_cast<std::size_t>(end - p));
    std::uint64_t bits = 0;
    std::size_t plain = size;
    for (std::size_t k = 0; k < size; k += 8) {
      std::uint64_t bytes = load(p + k, end);
      if (const std::uint64_t high = bytes & kHighBits) {
        const auto clear = static_cast<unsigned>(std::countr_zero(high)) / 8;
        plain = k + clear;
        bits |= word_bits(bytes & ((std::uint64_t{1} << (8 * clear)) - 1)) << k;
        break;
      }
      bits |= word_bits(bytes) << k;
    }
    make_room(kBlock / 2 + 1);
    std::uint64_t* out = words_.data() + count_;
    if (open && !(bits & 1) && plain) {
      *out++ = hash(open, p);
      open = nullptr;
    }
    const bool goes_on = plain < size || plain == kBlock;
    while (bits) {
      if (!open) open = p + std::countr_zero(bits);
      const std::uint64_t behind = bits + (bits & -bits);  // the lowest run of ones gave way to a one above it
      bits &= behind;
      const auto to = static_cast<std::size_t>(std::countr_zero(behind));
      if (to == plain && goes_on) break;
      *out++ = hash(open, p + to);
      open = nullptr;
    }
    count_ = static_cast<std::size_t>(out - words_.data());
    if (plain < size) return open ? open : p + plain;
  }
  if (open) words_[count_++] = hash(open, end);  // there was room for one more
  return end;
}

// Words of any characters, until ASCII goes on for a while behind one that parts them.
const char* Shingler::read_any(const char* p, const char* end) {
  WordHash word;
  const auto end_word = [&] {
    if (!word.length) return;
    make_room(1);
    words_[count_++] = word.finish();
    word = WordHash{};
  };
  while (p < end) {
    const auto byte = static_cast<std::uint8_t>(*p);
    if (byte < 128) {
      ++p;
      if (is_word_byte(byte)) {
        word.add(byte | 0x20);
      } else {
        end_word();
        if (!(load(p, end) & kHighBits)) return p;
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
  return p;
}

const std::vector<std::uint32_t>& Shingler::read(std::string_view text) {
  read_words(text);
  const std::uint64_t* words = words_.data();
  const std::size_t whole = std::min(n_, count_);
  shingles_.resize(count_ < n_ ? std::min<std::size_t>(count_, 1) : count_ - n_ + 1);
  std::uint64_t leaving = 1;
  for (std::size_t k = 0; k < n_; ++k) leaving *= kBase;
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < whole; ++i) hash = hash * kBase + words[i];
  if (!shingles_.empty()) shingles_[0] = finished(hash);
  for (std::size_t i = n_; i < count_; ++i) {
    hash = hash * kBase + (words[i] - words[i - n_] * leaving);
    shingles_[i + 1 - n_] = finished(hash);
  }
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

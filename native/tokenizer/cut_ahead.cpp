// The idea (as in simdjson, Langdale and Lemire 2019): compare 64 bytes at once and keep, for each class of characters,
// a 64-bit mask of where they stand. "A letter that follows a letter" is then `letters & letters << 1`, and a whole
// regular expression becomes some thirty operations on masks, without a branch for each character.
//
// Each function starts at the start of a piece, where the expressions look at nothing that came before, and every
// block is loaded anew from the last cut found: nothing is carried from block to block. What a cut before byte k depends
// on lies before k + 2, but for white space, where the whole run counts.
#include "tokenizer/cut_ahead.hpp"

#include <bit>

#include "simd/level.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define SEEDBED_INLINE inline __attribute__((always_inline))
#define SEEDBED_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2,bmi,bmi2,lzcnt")))

namespace seedbed::tokenizer {
namespace {

using Mask = std::uint64_t;

constexpr Mask below(int k) { return k >= 64 ? ~Mask{0} : (Mask{1} << k) - 1; }  // the bits 0 to k - 1

// 64 bytes of which masks are asked.
struct Avx2Bytes {
  __m256i low, high;
  SEEDBED_AVX2 SEEDBED_INLINE static Avx2Bytes load(const std::uint8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
  }
  SEEDBED_AVX2 SEEDBED_INLINE static Mask joined(__m256i a, __m256i b) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(a)) |
           Mask{static_cast<std::uint32_t>(_mm256_movemask_epi8(b))} << 32;
  }
  SEEDBED_AVX2 SEEDBED_INLINE Mask is(char c) const {
    const __m256i wanted = _mm256_set1_epi8(c);
    return joined(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted));
  }
  SEEDBED_AVX2 SEEDBED_INLINE Mask among(char from, int count) const {  // from <= byte < from + count
    const __m256i base = _mm256_set1_epi8(from), most = _mm256_set1_epi8(static_cast<char>(count - 1));
    const __m256i a = _mm256_sub_epi8(low, base), b = _mm256_sub_epi8(high, base);
    return joined(_mm256_cmpeq_epi8(_mm256_min_epu8(a, most), a), _mm256_cmpeq_epi8(_mm256_min_epu8(b, most), b));
  }
  SEEDBED_AVX2 SEEDBED_INLINE Mask beyond_ascii() const { return joined(low, high); }
  SEEDBED_AVX2 SEEDBED_INLINE Avx2Bytes lower_case() const {  // of letters
    const __m256i bit = _mm256_set1_epi8(0x20);
    return {_mm256_or_si256(low, bit), _mm256_or_si256(high, bit)};
  }
};

struct Avx512Bytes {
  __m512i bytes;
  SEEDBED_AVX512 SEEDBED_INLINE static Avx512Bytes load(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  SEEDBED_AVX512 SEEDBED_INLINE Mask is(char c) const { return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(c)); }
  SEEDBED_AVX512 SEEDBED_INLINE Mask among(char from, int count) const {
    return _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, _mm512_set1_epi8(from)),
                                  _mm512_set1_epi8(static_cast<char>(count)));
  }
  SEEDBED_AVX512 SEEDBED_INLINE Mask beyond_ascii() const { return _mm512_movepi8_mask(bytes); }
  SEEDBED_AVX512 SEEDBED_INLINE Avx512Bytes lower_case() const {
    return {_mm512_or_si512(bytes, _mm512_set1_epi8(0x20))};
  }
};

// Where the classes of pretokenizer.cpp stand, up to `known` bytes: of what follows nothing is said.
struct Classes {
  Mask letter, upper, number, space, newline, symbol;
  Mask blank, slash;        // ' ' and '/'
  Mask of_two, of_three;    // apostrophes that begin 's 't 'm 'd, and those that begin 're 've 'll
  int known;
};

#define SEEDBED_CLASSES(TARGET, BYTES)                                                                               \
  TARGET SEEDBED_INLINE Classes classes_of(const BYTES& bytes, std::size_t left, bool any_case) {                    \
    const Mask foreign = bytes.beyond_ascii() | ~below(left < 64 ? static_cast<int>(left) : 64);                     \
    const int known = std::countr_zero(foreign);                                                                     \
    const Mask in = below(known);                                                                                    \
    const BYTES lower_case = bytes.lower_case();                                                                     \
    Classes c;                                                                                                       \
    c.known = known;                                                                                                 \
    c.letter = lower_case.among('a', 26) & in;                                                                       \
    c.upper = bytes.among('A', 26) & in;                                                                             \
    c.number = bytes.among('0', 10) & in;                                                                            \
    c.blank = bytes.is(' ') & in;                                                                                    \
    c.space = (bytes.among('\t', 5) & in) | c.blank;                                                                 \
    c.newline = (bytes.is('\n') | bytes.is('\r')) & in;                                                              \
    c.symbol = in & ~(c.letter | c.number | c.space);                                                                \
    c.slash = bytes.is('/') & in;                                                                                    \
    c.of_two = c.of_three = 0;                                                                                       \
    if (const Mask at = bytes.is('\'') & in) {                                                                       \
      const BYTES read = any_case ? lower_case : bytes;                                                              \
      const Mask l = read.is('l'), e = read.is('e');                                                                 \
      c.of_two = at & (read.is('s') | read.is('t') | read.is('m') | read.is('d')) >> 1;                              \
      c.of_three = at & (((read.is('r') | read.is('v')) & e >> 1) | (l & l >> 1)) >> 1;                              \
    }                                                                                                                \
    return c;                                                                                                        \
  }

SEEDBED_CLASSES(SEEDBED_AVX2, Avx2Bytes)
SEEDBED_CLASSES(SEEDBED_AVX512, Avx512Bytes)

// The ends that can be told from the masks of starts.
SEEDBED_INLINE Mask told(Mask starts, const Classes& c, int known) {
  int sure = known - 1;  // bits below it
  if (known > 0 && c.space >> (known - 1) & 1) {  // a run of white space that may go on: only its start is sure
    const Mask others = ~c.space & below(known);
    const int run = 64 - std::countl_zero(others);
    sure = sure < run + 1 ? sure : run + 1;
  }
  return sure > 0 ? starts & below(sure) & ~Mask{1} : 0;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
SEEDBED_INLINE Mask starts_gpt2(const Classes& c) {
  const Mask runs = (c.letter & c.letter << 1) | (c.number & c.number << 1) | (c.symbol & c.symbol << 1);
  // A run of white space begins a piece, and so does its last character, which goes with what follows if it is ' '.
  const Mask spaces = c.space & (~(c.space << 1) | ~(c.space >> 1));
  const Mask starts = ((c.letter | c.number | c.symbol) & ~runs & ~(c.blank << 1)) | spaces;
  const Mask of_two = c.of_two & (starts | 1), of_three = c.of_three & (starts | 1);
  return (starts & ~((of_two | of_three) << 1)) | of_two << 2 | of_three << 3;
}

// White space by \s*[\r\n]+|\s+(?!\S)|\s+, where new lines right behind symbols belong to these: where pieces start.
// `absorbed` is set to where those new lines end.
SEEDBED_INLINE Mask starts_of_space(const Classes& c, Mask& absorbed) {
  const Mask other = c.space & ~c.newline;
  // The last of a run, if it and the one before are no new lines, goes with what follows or stands alone.
  Mask starts = (c.space & ~(c.space << 1)) | (other & other << 1 & ~(c.space >> 1));
  absorbed = 0;
  if (!c.newline) return starts;
  const Mask behind_symbols = c.newline & c.symbol << 1;
  absorbed = (behind_symbols + c.newline) & ~c.newline;
  starts = (starts & ~behind_symbols) | (absorbed & other);
  // White space behind a new line begins a piece, unless a new line follows it.
  if (Mask rest = other & c.newline << 1) {
    for (Mask again = (rest + other) & ~other & c.newline; again; again &= again - 1) {
      const Mask before = rest & ((again & -again) - 1);
      rest &= ~(Mask{1} << (63 - std::countl_zero(before)));
    }
    starts |= rest;
  }
  return starts;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*
// |\s*[\r\n]+|\s+(?!\S)|\s+
template <int digits>
SEEDBED_INLINE Mask starts_llama3(const Classes& c) {
  Mask absorbed;
  const Mask spaces = starts_of_space(c, absorbed);
  const Mask symbols = c.symbol & ~(c.symbol << 1) & ~(c.blank << 1);
  const Mask lead = symbols | (c.space & ~c.newline);  // one character that may stand before letters
  Mask starts = spaces | symbols | (c.letter & ~(c.letter << 1) & ~(lead << 1));
  if (c.number) {
    if (digits == 1) {
      starts |= c.number;
    } else {
      const Mask three = c.number & c.number << 1 & c.number << 2;
      for (Mask at = c.number & ~(c.number << 1); at; at = at << 3 & c.number & three << 1) starts |= at;
    }
  }
  return starts | (c.of_two & (symbols | 1)) << 2 | (c.of_three & (symbols | 1)) << 3;
}

// See cut_o200k for the expression. `known` is lowered to what these masks can tell.
SEEDBED_INLINE Mask starts_o200k(const Classes& c, int& known) {
  if (known > 0) --known;  // whether an apostrophe starts a piece depends on two letters behind it
  Mask absorbed;
  const Mask spaces = starts_of_space(c, absorbed);
  if (const Mask slash = absorbed & c.slash) {  // [\r\n/]* goes on
    const int at = std::countr_zero(slash);
    known = known < at ? known : at;
  }
  const Mask lower = c.letter & ~c.upper;
  const Mask symbols = c.symbol & ~(c.symbol << 1) & ~(c.blank << 1);
  const Mask lead = symbols | (c.space & ~c.newline);
  Mask starts = spaces | symbols | (c.letter & ~(c.letter << 1) & ~(lead << 1)) | (c.upper & lower << 1);
  if (c.number) {
    const Mask three = c.number & c.number << 1 & c.number << 2;
    for (Mask at = c.number & ~(c.number << 1); at; at = at << 3 & c.number & three << 1) starts |= at;
  }
  const Mask of_two = c.of_two & c.letter << 1, of_three = c.of_three & c.letter << 1;  // behind a word
  if (const Mask found = of_two | of_three) {
    const Mask behind = of_two << 2 | of_three << 3;
    if (const Mask twice = behind & found) {  // what ends a contraction is no word
      const int first = std::countr_zero(twice);
      known = known < first ? known : first;
    }
    // In a contraction nothing starts, whatever the case of its letters.
    starts = (starts & ~(found | found << 1 | of_three << 2)) | (behind & c.letter) | (behind & ~c.letter & starts);
  }
  return starts;
}

// Puts the pieces that end before the places k of `ends` in the block at p.
SEEDBED_INLINE void put_each(Pieces& pieces, const char* p, Mask ends) {
  auto from = static_cast<std::uint32_t>(p - pieces.base);
  const std::uint32_t block = from;
  for (; ends; ends &= ends - 1) {
    const std::uint32_t to = block + static_cast<std::uint32_t>(std::countr_zero(ends));
    pieces.starts[pieces.count] = from;
    pieces.ends[pieces.count++] = from = to;
  }
}

// The same without asking how many there are: sixteen places at a time are closed up.
SEEDBED_AVX512 SEEDBED_INLINE void put_each_avx512(Pieces& pieces, const char* p, Mask ends) {
  const auto block = static_cast<std::uint32_t>(p - pieces.base);
  __m512i places = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(block)),
                                    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  std::size_t count = pieces.count;
  pieces.starts[count] = block;
  for (int i = 0; i < 4; ++i, ends >>= 16) {
    const auto sixteen = static_cast<__mmask16>(ends);
    const __m512i found = _mm512_maskz_compress_epi32(sixteen, places);
    _mm512_storeu_si512(pieces.ends + count, found);
    _mm512_storeu_si512(pieces.starts + count + 1, found);  // where one ends the next starts
    count += static_cast<std::size_t>(__builtin_popcount(sixteen));
    places = _mm512_add_epi32(places, _mm512_set1_epi32(16));
  }
  pieces.count = count;
}

#define SEEDBED_CUT(TARGET, BYTES, NAME, PUT_EACH)                                                                   \
  template <Pattern pattern>                                                                                         \
  TARGET const char* NAME(const char* p, const char* end, Pieces& pieces) {                                          \
    while (p < end && pieces.count + 64 <= Pieces::kMost) {                                                          \
      const auto left = static_cast<std::size_t>(end - p);                                                           \
      std::uint8_t padded[64];                                                                                       \
      const auto* block = reinterpret_cast<const std::uint8_t*>(p);                                                  \
      if (left < 64) { /* what follows the text may not be readable */                                               \
        for (std::size_t i = 0; i < 64; ++i) padded[i] = i < left ? block[i] : 0;                                    \
        block = padded;                                                                                              \
      }                                                                                                              \
      const Classes c = classes_of(BYTES::load(block), left, pattern != Pattern::Gpt2);                              \
      int known = c.known;                                                                                           \
      Mask starts;                                                                                                   \
      if constexpr (pattern == Pattern::Gpt2) starts = starts_gpt2(c);                                               \
      else if constexpr (pattern == Pattern::O200k) starts = starts_o200k(c, known);                                 \
      else if constexpr (pattern == Pattern::Qwen2) starts = starts_llama3<1>(c);                                    \
      else starts = starts_llama3<3>(c);                                                                             \
      const Mask ends = told(starts, c, known);                                                                      \
      if (!ends) break;                                                                                              \
      PUT_EACH(pieces, p, ends);                                                                                     \
      p += 63 - std::countl_zero(ends);                                                                              \
    }                                                                                                                \
    return p;                                                                                                        \
  }

SEEDBED_CUT(SEEDBED_AVX2, Avx2Bytes, cut_avx2, put_each)
SEEDBED_CUT(SEEDBED_AVX512, Avx512Bytes, cut_avx512, put_each_avx512)

template <Pattern pattern>
CutAhead best() {
  switch (simd::level()) {
    case simd::Level::Avx512:
    case simd::Level::Avx512Vnni: return cut_avx512<pattern>;
    case simd::Level::Avx2: return cut_avx2<pattern>;
    default: return nullptr;
  }
}

}  // namespace

CutAhead cut_ahead_of(Pattern pattern) {
  switch (pattern) {
    case Pattern::Gpt2: return best<Pattern::Gpt2>();
    case Pattern::Cl100k: return best<Pattern::Cl100k>();
    case Pattern::Llama3: return best<Pattern::Llama3>();
    case Pattern::O200k: return best<Pattern::O200k>();
    case Pattern::Qwen2: return best<Pattern::Qwen2>();
  }
  return nullptr;
}

}  // namespace seedbed::tokenizer

#else

namespace seedbed::tokenizer {
CutAhead cut_ahead_of(Pattern) { return nullptr; }
}  // namespace seedbed::tokenizer

#endif

// BPE on words of a few bytes: the lowest rank is looked for among all pairs, merge by merge.
//
// What costs is not the arithmetic but waiting, as each merge decides on the next: for ranks from memory, and for
// vectors that are read where single numbers were just written. So the widest version keeps ranks in registers or
// writes them as vectors, and lets a rank share a number with its place: the smallest number tells both at once, and
// of equal ranks the leftmost.
#include <bit>

#include "simd/lowest.hpp"
#include "tokenizer/bpe_model.hpp"

namespace seedbed::tokenizer {
namespace {

constexpr std::uint32_t kNoMerge = MergeRanks::kNone;

}  // namespace

// The symbols of a word are linked; one that was swallowed by its left neighbour keeps a rank that never is lowest.
#define SEEDBED_MERGE_SHORT(TARGET, NAME, LOWEST)                                                                   \
  TARGET std::size_t BpeModel::NAME(std::string_view word, std::uint32_t* out) const {                              \
    std::uint32_t ranks[kShortWord + simd::kLowestLanes], ids[kShortWord];  /* ranks: of a symbol and the next */   \
    std::uint8_t next[kShortWord], previous[kShortWord];                                                            \
    const std::size_t n = word.size();                                                                              \
    const std::size_t padded = (n + simd::kLowestLanes - 1) / simd::kLowestLanes * simd::kLowestLanes;              \
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };                            \
    for (std::size_t i = 0; i < n; ++i) {                                                                           \
      ids[i] = bytes_[byte(i)];                                                                                     \
      ranks[i] = i + 1 < n ? byte_ranks_[std::size_t{byte(i)} << 8 | byte(i + 1)] : kNoMerge;                       \
      next[i] = static_cast<std::uint8_t>(i + 1);                                                                   \
      previous[i] = static_cast<std::uint8_t>(i - 1);                                                               \
    }                                                                                                               \
    for (std::size_t i = n; i < padded; ++i) ranks[i] = kNoMerge;                                                   \
    for (;;) {                                                                                                      \
      const std::size_t i = LOWEST::lowest(ranks, padded);  /* the leftmost of equals */                            \
      if (ranks[i] == kNoMerge) break;                                                                              \
      ids[i] = result(ranks[i]);                                                                                    \
      const std::size_t swallowed = next[i], after = next[swallowed];                                               \
      ranks[swallowed] = kNoMerge;                                                                                  \
      next[i] = static_cast<std::uint8_t>(after);                                                                   \
      if (after < n) previous[after] = static_cast<std::uint8_t>(i);                                                \
      ranks[i] = after < n ? ranks_.find(ids[i], ids[after]) : kNoMerge;                                            \
      if (i > 0) ranks[previous[i]] = ranks_.find(ids[previous[i]], ids[i]);                                        \
    }                                                                                                               \
    std::size_t count = 0;                                                                                          \
    for (std::size_t i = 0; i < n; i = next[i]) out[count++] = ids[i];                                              \
    return count;                                                                                                   \
  }

SEEDBED_MERGE_SHORT(, merge_short_scalar, simd::LowestScalar)
#if defined(__x86_64__)
SEEDBED_MERGE_SHORT(__attribute__((target("avx2,bmi"))), merge_short_avx2, simd::LowestAvx2)

#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2,bmi,bmi2,lzcnt")))

// Up to sixteen bytes: symbols and ranks stay in two registers, closed up after each merge.
SEEDBED_AVX512 std::size_t BpeModel::merge_sixteen_avx512(std::string_view word, std::uint32_t* out) const {
  const auto n = static_cast<unsigned>(word.size());
  const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto in_word = static_cast<__mmask16>((1u << n) - 1);
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(in_word, word.data()));
  const __m512i pairs = _mm512_or_si512(_mm512_slli_epi32(bytes, 8), _mm512_alignr_epi32(bytes, bytes, 1));
  const __m512i none = _mm512_set1_epi32(static_cast<int>(kNoMerge));
  __m512i ids = _mm512_mask_i32gather_epi32(none, in_word, bytes, bytes_.data(), 4);
  __m512i ranks = _mm512_mask_i32gather_epi32(none, in_word >> 1, pairs, byte_ranks_.data(), 4);
  std::uint32_t padded[18], *symbols = padded + 1;  // room before the first and behind the last
  unsigned count = n;
  for (;;) {
    _mm512_storeu_si512(symbols, ids);
    const std::uint32_t lowest = _mm512_reduce_min_epu32(_mm512_or_si512(_mm512_slli_epi32(ranks, 4), places));
    const std::uint32_t rank = lowest >> 4, i = lowest & 15;
    if (rank == kNoMerge) break;
    const std::uint32_t merged = result(rank);
    const auto here = static_cast<__mmask16>(1u << i);
    const auto stay = static_cast<__mmask16>(~(2u << i));
    --count;
    ids = _mm512_maskz_compress_epi32(stay, _mm512_mask_set1_epi32(ids, here, static_cast<int>(merged)));
    ranks = _mm512_mask_compress_epi32(none, stay, ranks);
    const std::uint32_t behind = i + 1 < count ? ranks_.find(merged, symbols[i + 2]) : kNoMerge;
    const std::uint32_t before = i > 0 ? ranks_.find(symbols[i - 1], merged) : kNoMerge;
    ranks = _mm512_mask_set1_epi32(ranks, here, static_cast<int>(behind));
    ranks = _mm512_mask_set1_epi32(ranks, here >> 1, static_cast<int>(before));
  }
  for (unsigned i = 0; i < count; ++i) out[i] = symbols[i];
  return count;
}

// Longer ones: the lowest number of each eight is kept too, so a merge looks at the eights that it changed.
SEEDBED_AVX512 std::size_t BpeModel::merge_short_avx512(std::string_view word, std::uint32_t* out) const {
  if (word.size() <= 16) return merge_sixteen_avx512(word, out);
  constexpr std::uint32_t kNever = ~std::uint32_t{0};
  alignas(32) std::uint32_t numbers[256];  // rank << 8 | place, or kNever
  std::uint32_t ids[256];
  std::uint8_t next[256], previous[256];
  const std::size_t n = word.size();
  const auto numbered = [](std::uint32_t rank, std::size_t place) {
    return rank == kNoMerge ? kNever : rank << 8 | static_cast<std::uint32_t>(place);
  };
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(word[i]); };
  for (std::size_t i = 0; i < n; ++i) {
    ids[i] = bytes_[byte(i)];
    numbers[i] = i + 1 < n ? numbered(byte_ranks_[std::size_t{byte(i)} << 8 | byte(i + 1)], i) : kNever;
    next[i] = static_cast<std::uint8_t>(i + 1);
    previous[i] = static_cast<std::uint8_t>(i - 1);
  }
  const std::size_t eights = (n + 7) / 8;
  for (std::size_t i = n; i < eights * 8; ++i) numbers[i] = kNever;
  __m512i lowest[2] = {_mm512_set1_epi32(-1), _mm512_set1_epi32(-1)};
  const auto look_at = [&](std::size_t eight, __m256i changed) SEEDBED_AVX512 {
    const __m128i four = _mm_min_epu32(_mm256_castsi256_si128(changed), _mm256_extracti128_si256(changed, 1));
    const __m128i two = _mm_min_epu32(four, _mm_shuffle_epi32(four, 0x4E));
    const __m512i least = _mm512_broadcastd_epi32(_mm_min_epu32(two, _mm_shuffle_epi32(two, 0xB1)));
    const std::uint32_t bit = 1u << eight;
    lowest[0] = _mm512_mask_mov_epi32(lowest[0], static_cast<__mmask16>(bit), least);
    lowest[1] = _mm512_mask_mov_epi32(lowest[1], static_cast<__mmask16>(bit >> 16), least);
  };
  const auto change = [&](std::size_t place, std::uint32_t number) SEEDBED_AVX512 {
    auto* const eight = reinterpret_cast<__m256i*>(numbers + (place & ~std::size_t{7}));
    const __m256i changed = _mm256_mask_set1_epi32(_mm256_load_si256(eight), static_cast<__mmask8>(1u << (place & 7)),
                                                   static_cast<int>(number));
    _mm256_store_si256(eight, changed);  // whole, so that it can be read back at once
    look_at(place / 8, changed);
  };
  for (std::size_t i = 0; i < eights; ++i) look_at(i, _mm256_load_si256(reinterpret_cast<__m256i*>(numbers + 8 * i)));
  for (;;) {
    const std::uint32_t least = _mm512_reduce_min_epu32(_mm512_min_epu32(lowest[0], lowest[1]));
    if (least == kNever) break;
    const std::size_t i = least & 255, swallowed = next[i], after = next[swallowed];
    const std::uint32_t merged = result(least >> 8);
    ids[i] = merged;
    next[i] = static_cast<std::uint8_t>(after);
    change(swallowed, kNever);
    if (i > 0) change(previous[i], numbered(ranks_.find(ids[previous[i]], merged), previous[i]));
    if (after < n) previous[after] = static_cast<std::uint8_t>(i);
    change(i, after < n ? numbered(ranks_.find(merged, ids[after]), i) : kNever);
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i = next[i]) out[count++] = ids[i];
  return count;
}
#endif

BpeModel::MergeShort BpeModel::best_merge_short() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return &BpeModel::merge_short_avx512;
  if (simd::level() == simd::Level::Avx2) return &BpeModel::merge_short_avx2;
#endif
  return &BpeModel::merge_short_scalar;
}

}  // namespace seedbed::tokenizer

#include "tokenizer/known_words.hpp"

#include "simd/level.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 takes its own undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define SEEDBED_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,bmi,bmi2,lzcnt")))
#endif

namespace seedbed::tokenizer {
namespace {

using Key = WordCache::Key;

// The key of a long word is none that any word in the cache has.
[[gnu::noinline]] void find_rare_key(WordBatch& batch, std::size_t i, WordCache& cache, const char* readable_end) {
  const std::string_view word = batch.words[i];
  if (word.size() <= WordCache::kShortBytes) {
    batch.keys[i] = WordCache::key_of(word.data(), word.size(), static_cast<std::size_t>(readable_end - word.data()));
    batch.hashes[i] = WordCache::hash_of(batch.keys[i]);
    return;
  }
  batch.keys[i] = {0, ~std::uint64_t{0}};
  batch.hashes[i] = 0;
  if (word.size() > ManyIds::kMostBytes) return;
  batch.hashes[i] = ManyIds::hash_of(word);
  cache.many_ids.prefetch(static_cast<std::uint32_t>(batch.hashes[i]));
}

void find_all_keys(WordBatch& batch, WordCache& cache, const char* readable_end) {
  for (std::size_t i = 0; i < batch.words.count; ++i) {
    const std::string_view word = batch.words[i];
    const auto readable = static_cast<std::size_t>(readable_end - word.data());
    if (word.size() <= WordCache::kShortBytes && readable >= sizeof(Key)) [[likely]] {
      batch.keys[i] = WordCache::key_of(word.data(), word.size(), sizeof(Key));
      batch.hashes[i] = WordCache::hash_of(batch.keys[i]);
      cache.prefetch(batch.hashes[i]);
    } else {
      find_rare_key(batch, i, cache, readable_end);
    }
  }
}

std::size_t copy_known(const WordBatch& batch, std::size_t i, const WordCache& cache, std::uint32_t*& to) {
  std::uint32_t* out = to;
  for (; i < batch.words.count; ++i) {
    const Key key = batch.keys[i];
    const WordCache::Bucket& home = cache.bucket(batch.hashes[i]);
    const WordCache::ShortSlot& slot = home.slots[!(home.slots[0].key == key)];
    if (!(slot.key == key) || slot.count > WordCache::kShortIds) break;
    std::memcpy(out, slot.ids, sizeof slot.ids + sizeof slot.count);  // cheaper than asking how many
    out += slot.count;
  }
  to = out;
  return i;
}

#if defined(__x86_64__)
// Four words at a time; hash_of is the same arithmetic.
SEEDBED_AVX512 void find_keys_avx512(WordBatch& batch, WordCache& cache, const char* readable_end) {
  static_assert(sizeof(Key) == 16 && WordCache::kShortBytes == 15);
  const __m512i lowest_bytes =  // of four numbers
      _mm512_set_epi32(0x0C0C0C0C, 0x0C0C0C0C, 0x0C0C0C0C, 0x0C0C0C0C, 0x08080808, 0x08080808, 0x08080808, 0x08080808,
                       0x04040404, 0x04040404, 0x04040404, 0x04040404, 0, 0, 0, 0);
  const __m512i places = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m128i most = _mm_set1_epi32(WordCache::kShortBytes);
  const __m512i salt = _mm512_broadcast_i64x2(_mm_set_epi64x(static_cast<long long>(WordCache::kSalt.high),
                                                             static_cast<long long>(WordCache::kSalt.low)));
  const auto load = [](const void* at) SEEDBED_AVX512 { return _mm_loadu_si128(static_cast<const __m128i*>(at)); };
  std::size_t i = 0;
  for (; i + 4 <= batch.words.count; i += 4) {
    const std::uint32_t* const starts = &batch.words.starts[i];
    const __m128i four_sizes = _mm_sub_epi32(load(&batch.words.ends[i]), load(starts));
    const char* const base = batch.words.base;
    const bool rare = _mm_cmpgt_epu32_mask(four_sizes, most) || base + starts[3] + sizeof(Key) > readable_end;
    if (rare) [[unlikely]] {
      for (std::size_t j = i; j < i + 4; ++j) find_rare_key(batch, j, cache, readable_end);
      continue;
    }
    __m512i bytes = _mm512_castsi128_si512(load(base + starts[0]));
    bytes = _mm512_inserti64x2(bytes, load(base + starts[1]), 1);
    bytes = _mm512_inserti64x2(bytes, load(base + starts[2]), 2);
    bytes = _mm512_inserti64x2(bytes, load(base + starts[3]), 3);
    const __m512i sizes = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(four_sizes), lowest_bytes);
    const __m512i keys = _mm512_mask_mov_epi8(_mm512_maskz_mov_epi8(_mm512_cmplt_epu8_mask(places, sizes), bytes),
                                              0x8000800080008000u, sizes);
    _mm512_store_si512(&batch.keys[i], keys);
    const __m512i salted = _mm512_xor_si512(keys, salt);
    const __m512i products = _mm512_mul_epu32(salted, _mm512_srli_epi64(salted, 32));
    const __m512i both = _mm512_xor_si512(products, _mm512_shuffle_epi32(products, _MM_PERM_BADC));
    const __m512i hashes = _mm512_xor_si512(both, _mm512_srli_epi64(both, 32));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(&batch.hashes[i]),
                        _mm512_castsi512_si256(_mm512_maskz_compress_epi64(0x55, hashes)));
    for (std::size_t j = i; j < i + 4; ++j) cache.prefetch(batch.hashes[j]);
  }
  for (; i < batch.words.count; ++i) find_rare_key(batch, i, cache, readable_end);
}

SEEDBED_AVX512 std::size_t copy_avx512(const WordBatch& batch, std::size_t i, const WordCache& cache,
                                       std::uint32_t*& to) {
  static_assert(sizeof(WordCache::Bucket) == 64 && sizeof(WordCache::ShortSlot) == 32);
  std::uint32_t* out = to;
  for (; i < batch.words.count; ++i) {
    const WordCache::Bucket& home = cache.bucket(batch.hashes[i]);
    const __m512i key = _mm512_broadcast_i64x2(_mm_load_si128(reinterpret_cast<const __m128i*>(&batch.keys[i])));
    const unsigned equal = _mm512_cmpeq_epi64_mask(_mm512_load_si512(&home), key);
    const unsigned slots = equal & equal >> 1 & 0x11;  // both halves of the key, in the first slot or in the second
    const WordCache::ShortSlot& slot = home.slots[slots >> 4];
    if (!slots || slot.count > WordCache::kShortIds) break;
    std::memcpy(out, slot.ids, sizeof slot.ids + sizeof slot.count);
    out += slot.count;
  }
  to = out;
  return i;
}
#endif

}  // namespace

KnownWords KnownWords::best() {
#if defined(__x86_64__)
  if (simd::level() >= simd::Level::Avx512) return {find_keys_avx512, copy_avx512};
#endif
  return {find_all_keys, copy_known};
}

}  // namespace seedbed::tokenizer

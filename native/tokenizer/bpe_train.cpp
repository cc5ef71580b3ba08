#include "tokenizer/bpe_train.hpp"

namespace seedbed::tokenizer {

Vocabulary train_bpe(const WordCounts& words, std::size_t vocab_size, const std::vector<std::string>& specials,
                     const std::vector<std::uint8_t>& byte_order, std::uint64_t min_frequency) {
  MergeTrainer trainer([](std::string_view left, std::string_view right) { return std::string(left).append(right); });
  for (const std::string& special : specials) trainer.id_of(special);
  std::uint32_t byte_ids[256];
  for (const std::uint8_t byte : byte_order) byte_ids[byte] = trainer.id_of(std::string(1, static_cast<char>(byte)));
  trainer.reserve(words.size(), words.bytes());
  std::vector<std::uint32_t> symbols;
  words.for_each([&](std::string_view word, std::uint64_t count) {
    symbols.clear();
    for (const char c : word) symbols.push_back(byte_ids[static_cast<std::uint8_t>(c)]);
    trainer.add(symbols, count);
  });
  return trainer.run(vocab_size, min_frequency);
}

}  // namespace seedbed::tokenizer

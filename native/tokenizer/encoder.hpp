// Texts to ids: added tokens are found first, an algorithm encodes what lies between them, and batches go over threads.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.hpp"
#include "tokenizer/algorithm.hpp"
#include "tokenizer/text.hpp"

namespace seedbed::tokenizer {

class Encoder {
 public:
  // pieces[id]: the bytes that each id stands for.
  Encoder(std::shared_ptr<const Algorithm> algorithm, std::vector<std::string> pieces, AddedTokens added)
      : algorithm_(std::move(algorithm)), pieces_(std::move(pieces)), added_(std::move(added)) {}

  const std::vector<std::string>& pieces() const { return pieces_; }

  struct Batch {
    IdBuffer ids;                       // of all texts, one behind another
    std::vector<std::int64_t> offsets;  // of each text in ids, and the end
  };
  // Throws LoneSurrogate of one of the texts.
  Batch encode(const std::vector<Text>& texts, unsigned threads, bool parse_special) const;

  // The ids of one text. Throws LoneSurrogate.
  IdBuffer encode(const Text& text, bool parse_special) const;

  // The ids of one text and the bytes of it that each stands for.
  void encode(std::string_view text, bool parse_special, IdBuffer& ids, std::vector<Span>& spans) const;

 private:
  class Lease;
  void encode_text(std::string_view text, bool parse_special, Algorithm::State& state, IdBuffer& ids,
                   std::vector<Span>* spans) const;
  void encode_section(const Section& section, bool parse_special, Algorithm::State& state, IdBuffer& ids,
                      std::vector<Span>* spans) const;

  std::shared_ptr<const Algorithm> algorithm_;
  std::vector<std::string> pieces_;
  AddedTokens added_;
  mutable std::mutex mutex_;
  struct Workplace {
    std::unique_ptr<Algorithm::State> state;
    IdBuffer ids;
    Utf8Reader reader;
  };
  mutable std::vector<Workplace> idle_;
};

}  // namespace seedbed::tokenizer

// The normalisers of Hugging Face's tokenizer.json, equal to `tokenizers` in text and in origins.
//
// An origin is what `tokenizers` holds for a byte of normalised text: the bytes of the one character that it replaces. A
// character that comes on top (the second of a decomposition, say) has the origin of the byte before it.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/normalizer.hpp"

namespace seedbed::tokenizer {

// Unicode's normal forms (Unicode Standard Annex 15).
class UnicodeForm final : public Normalizer {
 public:
  UnicodeForm(bool compatible, bool composed);
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  bool stable(std::uint32_t code) const;
  void normalize_run(const char* from, const char* to, const char* start, std::string& out,
                     std::vector<Span>* origins) const;

  bool compatible_, composed_;
  std::uint16_t stable_;  // flag of the characters that need no look
};

// Each character by itself, without regard to its neighbours.
class Lowercase final : public Normalizer {
 public:
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;
};

// Leaves out the characters with a flag of unicode_forms.hpp.
class Drop final : public Normalizer {
 public:
  explicit Drop(std::uint16_t flag) : flag_(flag) {}
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  std::uint16_t flag_;
};

// Every occurrence of a text that is not empty becomes another text.
class Replace final : public Normalizer {
 public:
  Replace(std::string pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  std::string pattern_, content_;
};

// Puts a text in front of one that is not empty.
class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string content) : content_(std::move(content)) {}
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  std::string content_;
};

// Takes white space away from the ends.
class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  bool left_, right_;
};

// One after another.
class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::shared_ptr<const Normalizer>> steps) : steps_(std::move(steps)) {}
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  std::vector<std::shared_ptr<const Normalizer>> steps_;
};

// BERT's (Devlin et al. 2018, `BasicTokenizer`): control characters go, white space becomes a space, ideographs stand
// between spaces, accents go, and all is lower case.
class BertNormalizer final : public Normalizer {
 public:
  struct Options {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
  };
  explicit BertNormalizer(Options options);
  const Options& options() const { return options_; }
  void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const override;

 private:
  static constexpr char kDropped = '\xFF';
  bool normalize_at_once(std::string_view text, std::string& out, std::vector<Span>* origins) const;

  Options options_;
  std::array<char, 128> ascii_;  // what becomes of each character of ASCII
  NormalizerSequence steps_;
};

}  // namespace seedbed::tokenizer

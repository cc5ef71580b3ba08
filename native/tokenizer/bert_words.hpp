// How BERT cuts a text into words: at white space, which goes, and around every mark of punctuation.
#pragma once
#include <array>
#include <cstdint>

#include "tokenizer/normalizers.hpp"
#include "tokenizer/unicode_forms.hpp"
#include "tokenizer/word_source.hpp"

namespace seedbed::tokenizer {

class BertCut {
 public:
  // Cuts normalised text; at white space only unless `punctuation`.
  explicit BertCut(bool punctuation) : BertCut(punctuation ? kPunctuation : 0, 0) {}

  // Cuts text that is yet to be normalised, at places where the normalised text is cut too, whatever stands around them;
  // so its pieces can be normalised one by one. A piece may fall into several words when it is normalised, or into none.
  BertCut(bool punctuation, const BertNormalizer::Options& options)
      : BertCut((punctuation ? kPunctuation : 0) | (options.handle_chinese_chars ? kIdeograph : 0),
                options.clean_text ? kControl : 0) {}

  // Calls take(from, to) for each piece in the order of the text.
  template <class Take>
  void each(const char* p, const char* end, Take&& take) const {
    const char* from = p;
    while (p < end) {
      Role role = roles_[static_cast<std::uint8_t>(*p)];
      if (role == kInside) {
        ++p;
        continue;
      }
      std::uint32_t length = 1;
      if (role == kLook) {
        const CodePoint code = read_code_point(p, end);
        length = code.length;
        role = role_of(code.value);
      }
      if (role != kInside) {
        if (from < p) take(from, p);
        if (role == kAlone) take(p, p + length);
        from = p + length;
      }
      p += length;
    }
    if (from < end) take(from, end);
  }

 private:
  enum Role : std::uint8_t { kInside, kBetween, kAlone, kLook };

  BertCut(int alone, int dropped) : alone_(static_cast<std::uint16_t>(alone)), dropped_(static_cast<std::uint16_t>(dropped)) {
    for (std::uint32_t byte = 0; byte < roles_.size(); ++byte) roles_[byte] = byte < 0x80 ? role_of(byte) : kLook;
  }
  Role role_of(std::uint32_t code) const {
    const std::uint16_t flags = kind_of(code).flags;
    if (flags & dropped_) return kInside;  // what stands before it and behind it comes together
    return flags & kBlank ? kBetween : flags & alone_ ? kAlone : kInside;
  }

  std::uint16_t alone_, dropped_;  // flags of unicode_forms.hpp
  std::array<Role, 256> roles_;
};

// The words of normalised text, for training.
class BertWords final : public WordSource {
 public:
  explicit BertWords(std::shared_ptr<const Normalizer> normalizer) : normalizer_(std::move(normalizer)) {}
  void each(std::string_view text, const Take& take) const override {
    std::string normalized;
    if (normalizer_) {
      normalizer_->normalize(text, normalized, nullptr);
      text = normalized;
    }
    cut_.each(text.data(), text.data() + text.size(),
              [&](const char* from, const char* to) { take({from, static_cast<std::size_t>(to - from)}); });
  }

 private:
  std::shared_ptr<const Normalizer> normalizer_;
  BertCut cut_{true};
};

}  // namespace seedbed::tokenizer

// How a text falls into the words that training counts, as encoding would cut it.
#pragma once
#include <functional>
#include <string_view>

#include "tokenizer/pretokenizer.hpp"

namespace seedbed::tokenizer {

class WordSource {
 public:
  virtual ~WordSource() = default;

  // Calls take(word) for each word in the order of the text; the view is valid for the call only. Safe to call from
  // several threads.
  using Take = std::function<void(std::string_view)>;
  virtual void each(std::string_view text, const Take& take) const = 0;
};

// The pieces between the cuts of a pattern.
class PatternWords final : public WordSource {
 public:
  explicit PatternWords(Pattern pattern) : cut_(cut_of(pattern)) {}
  void each(std::string_view text, const Take& take) const override {
    const auto* p = reinterpret_cast<const std::uint8_t*>(text.data());
    for (const auto* end = p + text.size(); p < end;) {
      const std::uint8_t* after = cut_(p, end);
      take({reinterpret_cast<const char*>(p), static_cast<std::size_t>(after - p)});
      p = after;
    }
  }

 private:
  Cut cut_;
};

}  // namespace seedbed::tokenizer

// The pieces of a text in their order, by the fastest way that the machine has.
#pragma once
#include <stdexcept>

#include "tokenizer/cut_ahead.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace seedbed::tokenizer {

class Cutter {
 public:
  explicit Cutter(Pattern pattern) : cut_(cut_of(pattern)), ahead_(cut_ahead_of(pattern)) {}

  // Fills `pieces` again and again with those of `text`, and calls take() each time. Throws std::length_error.
  template <class Take>
  void each(std::string_view text, Pieces& pieces, Take&& take) const {
    constexpr std::size_t kBlock = 64;  // pieces that ahead_ may put at once
    const char *p = text.data(), *const end = p + text.size();
    pieces.restart(p);
    while (p < end) {
      if (ahead_ && is_ascii(p[0]) && (p + 1 == end || is_ascii(p[1]))) p = ahead_(p, end, pieces);
      const char* const from = p;
      if (p < end && pieces.count + kBlock <= Pieces::kMost) {  // a piece that cannot be told ahead
        p = reinterpret_cast<const char*>(
            cut_(reinterpret_cast<const std::uint8_t*>(from), reinterpret_cast<const std::uint8_t*>(end)));
        if (!pieces.reaches(p)) {
          take();
          pieces.restart(from);
          if (!pieces.reaches(p)) throw std::length_error("a piece of text of 4 GiB without a cut cannot be encoded");
        }
        pieces.put(from, p);
      }
      if (pieces.count + kBlock <= Pieces::kMost && pieces.reaches(p + kBlock)) continue;
      take();
      pieces.restart(p);
    }
    if (pieces.count) take();
  }

 private:
  static bool is_ascii(char byte) { return static_cast<std::uint8_t>(byte) < 0x80; }

  Cut cut_;
  CutAhead ahead_;
};

}  // namespace seedbed::tokenizer

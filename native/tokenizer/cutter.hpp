// The pieces of a text in their order, by the fastest way that the machine has.
#pragma once
#include <bit>

#include "tokenizer/cut_ahead.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace seedbed::tokenizer {

class Cutter {
 public:
  explicit Cutter(Pattern pattern) : cut_(cut_of(pattern)), ahead_(cut_ahead_of(pattern)) {}

  // Calls piece(from, to) for each piece of [p, end).
  template <class Piece>
  void each(const std::uint8_t* p, const std::uint8_t* end, Piece&& piece) const {
    while (p < end) {
      const std::uint8_t* from = p;
      if (ahead_ && *p < 0x80) {
        for (std::uint64_t ends = ahead_(p, static_cast<std::size_t>(end - p)); ends; ends &= ends - 1) {
          const std::uint8_t* to = p + std::countr_zero(ends);
          piece(from, to);
          from = to;
        }
        if (from > p) {
          p = from;
          continue;
        }
      }
      p = cut_(from, end);
      piece(from, p);
    }
  }

 private:
  Cut cut_;
  CutAhead ahead_;
};

}  // namespace seedbed::tokenizer

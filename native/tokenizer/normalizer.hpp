// Text rewritten before it is cut, with the way back to the original for those who ask where a token stands.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/algorithm.hpp"

namespace seedbed::tokenizer {

struct Normalized {
  std::string text;
  std::vector<Span> origin;  // of each byte of `text`: the bytes of the original; empty unless it was asked for
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // first: the section starts its text.
  virtual void apply(std::string_view section, bool first, bool with_origin, Normalized& out) const = 0;
};

}  // namespace seedbed::tokenizer

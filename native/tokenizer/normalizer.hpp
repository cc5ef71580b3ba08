// What changes a text before it is cut: Unicode forms, lower case, spaces written as another character.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/section.hpp"

namespace seedbed::tokenizer {

class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // Appends the normalised text to `out` and, unless `origins` is null, for each byte of it the bytes of `text` that
  // it came from. Bytes that are not UTF-8 are kept. Safe to call from several threads.
  virtual void normalize(std::string_view text, std::string& out, std::vector<Span>* origins) const = 0;
};

}  // namespace seedbed::tokenizer

// A stretch of text on its way to ids, and places in it.
#pragma once
#include <cstddef>
#include <string_view>

namespace seedbed::tokenizer {

// A stretch of text without added tokens.
struct Section {
  std::string_view text;
  const char* readable_end;  // up to here bytes may be read, whatever they hold
  bool at_start;             // nothing of the text stands before it
  bool normalized;           // it has gone through the algorithm's normaliser
};

// Bytes of a text: from, up to but without to.
struct Span {
  std::size_t from, to;
};

}  // namespace seedbed::tokenizer

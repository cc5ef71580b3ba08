// A text as its owner holds it, and its UTF-8: transcoding is left to the thread that reads it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace seedbed::tokenizer {

struct Text {
  enum class Units : std::uint8_t { Utf8, Latin1, Ucs2, Ucs4 };
  const void* data;
  std::size_t length;  // in units
  Units units;

  // At most so many bytes of UTF-8.
  std::size_t most_bytes() const {
    return length * (units == Units::Utf8 ? 1 : units == Units::Latin1 ? 2 : units == Units::Ucs2 ? 3 : 4);
  }
};

// A text has a lone surrogate, which UTF-8 cannot say.
struct LoneSurrogate {
  std::size_t position;
};

// The UTF-8 of texts, one after another; each view is valid until the next is asked for. Throws LoneSurrogate.
class Utf8Reader {
 public:
  std::string_view read(const Text& text);
  std::size_t capacity() const { return buffer_.capacity(); }

 private:
  std::string buffer_;
};

}  // namespace seedbed::tokenizer

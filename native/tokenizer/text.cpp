#include "tokenizer/text.hpp"

namespace seedbed::tokenizer {
namespace {

template <class Unit>
std::size_t transcode(const Unit* units, std::size_t length, char* out) {
  char* const start = out;
  std::size_t i = 0;
  while (i < length) {
    constexpr std::size_t kBlock = 32;
    if (i + kBlock <= length) {  // ASCII by blocks: the compiler makes vectors of both loops
      Unit any = 0;
      for (std::size_t j = 0; j < kBlock; ++j) any = static_cast<Unit>(any | units[i + j]);
      if (any < 0x80) {
        for (std::size_t j = 0; j < kBlock; ++j) out[j] = static_cast<char>(units[i + j]);
        out += kBlock;
        i += kBlock;
        continue;
      }
    }
    const std::size_t until = i + kBlock < length ? i + kBlock : length;
    for (; i < until; ++i) {
      const auto code = static_cast<std::uint32_t>(units[i]);
      if (code < 0x80) {
        *out++ = static_cast<char>(code);
      } else if (code < 0x800) {
        *out++ = static_cast<char>(0xC0 | code >> 6);
        *out++ = static_cast<char>(0x80 | (code & 0x3F));
      } else if (code < 0x10000) {
        if (code >= 0xD800 && code < 0xE000) throw LoneSurrogate{i};
        *out++ = static_cast<char>(0xE0 | code >> 12);
        *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3F));
        *out++ = static_cast<char>(0x80 | (code & 0x3F));
      } else {
        *out++ = static_cast<char>(0xF0 | code >> 18);
        *out++ = static_cast<char>(0x80 | (code >> 12 & 0x3F));
        *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3F));
        *out++ = static_cast<char>(0x80 | (code & 0x3F));
      }
    }
  }
  return static_cast<std::size_t>(out - start);
}

}  // namespace

std::string_view Utf8Reader::read(const Text& text) {
  if (text.units == Text::Units::Utf8) return {static_cast<const char*>(text.data), text.length};
  if (buffer_.size() < text.most_bytes()) buffer_.resize(text.most_bytes());
  std::size_t size = 0;
  switch (text.units) {
    case Text::Units::Latin1: size = transcode(static_cast<const std::uint8_t*>(text.data), text.length, buffer_.data()); break;
    case Text::Units::Ucs2: size = transcode(static_cast<const std::uint16_t*>(text.data), text.length, buffer_.data()); break;
    default: size = transcode(static_cast<const std::uint32_t*>(text.data), text.length, buffer_.data());
  }
  return {buffer_.data(), size};
}

}  // namespace seedbed::tokenizer

// Pre-tokenising 64 bytes at a time: the same cuts as pretokenizer.cpp's matchers, found with bit masks.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tokenizer/pretokenizer.hpp"

namespace seedbed::tokenizer {

// Bit k is set where a piece ends before byte k of the text at p, which is itself the start of a piece. Only ends that
// nothing behind the first 64 bytes, and nothing beyond ASCII, can change are told; 0 if there are none: then the
// matcher that goes character by character must cut the next piece. `left` bytes are left of the text.
using CutAhead = std::uint64_t (*)(const std::uint8_t* p, std::size_t left);

// By the instruction set in use (simd/level.hpp); null where it has no such code.
CutAhead cut_ahead_of(Pattern pattern);

}  // namespace seedbed::tokenizer

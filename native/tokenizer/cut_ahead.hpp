// Pre-tokenising 64 bytes at a time: the same cuts as pretokenizer.cpp's matchers, found with bit masks.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tokenizer/pieces.hpp"
#include "tokenizer/pretokenizer.hpp"

namespace seedbed::tokenizer {

// Puts the pieces of the text [p, end) from p on, which is itself the start of a piece, as long as it can tell them and
// there is room for 64 more; returns where the last one ends. Only pieces that nothing beyond ASCII can change are
// told. Where it returns with room left, the matcher that goes character by character must cut the next piece.
using CutAhead = const char* (*)(const char* p, const char* end, Pieces& pieces);

// By the instruction set in use (simd/level.hpp); null where it has no such code.
CutAhead cut_ahead_of(Pattern pattern);

}  // namespace seedbed::tokenizer

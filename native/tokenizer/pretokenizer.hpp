// Pre-tokenisers: text is cut into pieces ("pre-tokens") before BPE, and no token crosses a cut.
//
// Each known pattern is a regular expression that published tokenizers use. Here each is a hand-written matcher over
// a table of character classes; pretokenizer.cpp shows the expression above its matcher. Matching is linear: no
// matcher reads more than a constant number of times over what it then cuts off.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace seedbed::tokenizer {

enum class Pattern { Gpt2, Cl100k, Llama3, O200k, Qwen2 };

std::optional<Pattern> pattern_named(std::string_view name);

// The end of the piece that starts at p (p < end); always past p.
using Cut = const std::uint8_t* (*)(const std::uint8_t* p, const std::uint8_t* end);
Cut cut_of(Pattern pattern);

}  // namespace seedbed::tokenizer

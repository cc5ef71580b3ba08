"""Writes unicode_tables.hpp: the classes of characters that pre-tokenisers ask for, as a two-stage table.

    python native/tokenizer/make_unicode_tables.py

The pre-tokenisers must agree with the regular-expression engines of `tokenizers` and `tiktoken`, which know Unicode 16;
an older Python's `unicodedata` does not, so the package `unicodedata2` is used where it is installed. The header says
which version it was made from. A character maps through its block of 128: classes[blocks[c >> 7]][c & 127].
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

BLOCK = 128
# The bits of unicode.hpp.
UPPER, LOWER, OTHER_LETTER, MARK, NUMBER, SPACE, NEWLINE, WORD = (1 << bit for bit in range(8))
CLASSES = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER, "Lm": OTHER_LETTER, "Lo": OTHER_LETTER}
# Of Alphabetic and Join_Control, which \w has too, what the categories do not say: letters in circles, joiners.
WORD_RANGES = ((0x200C, 0x200D), (0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))


def class_of(code: int) -> int:
    category = unicodedata.category(chr(code))
    in_word = category[0] in "LM" or category in ("Nd", "Nl", "Pc") or any(a <= code <= b for a, b in WORD_RANGES)
    return basic_class_of(code) | (WORD if in_word else 0)


def basic_class_of(code: int) -> int:
    if code in (0x0A, 0x0D):
        return SPACE | NEWLINE
    if 0x09 <= code <= 0x0D or code == 0x85:  # White_Space outside the category Z
        return SPACE
    category = unicodedata.category(chr(code))
    if category in CLASSES:
        return CLASSES[category]
    return {"M": MARK, "N": NUMBER, "Z": SPACE}.get(category[0], 0)


def rows(values: list[int], indent: str, width: int = 116) -> str:
    lines, line = [], indent
    for value in values:
        item = f"{value},"
        if len(line) + len(item) > width:
            lines.append(line)
            line = indent
        line += item
    return "\n".join([*lines, line])


def main() -> None:
    unique: dict[tuple[int, ...], int] = {}
    blocks = []
    for start in range(0, sys.maxunicode + 1, BLOCK):
        block = tuple(class_of(code) for code in range(start, start + BLOCK))
        blocks.append(unique.setdefault(block, len(unique)))
    while blocks[-1] == blocks[-2]:  # the tail of private-use planes is one block; lookups past the end use it
        blocks.pop()
    text = f"""// Written by make_unicode_tables.py from Unicode {unicodedata.unidata_version}; do not edit.
#pragma once
#include <cstdint>

namespace seedbed::tokenizer::unicode_tables {{

inline constexpr std::uint32_t kBlocks = {len(blocks)};
inline constexpr std::uint16_t blocks[kBlocks] = {{
{rows(blocks, "    ")}
}};
inline constexpr std::uint8_t classes[{len(unique)}][{BLOCK}] = {{
"""
    for block in unique:
        text += f"    {{\n{rows(list(block), '        ')}\n    }},\n"
    text += "};\n\n}  // namespace seedbed::tokenizer::unicode_tables\n"
    Path(__file__).with_name("unicode_tables.hpp").write_text(text, encoding="ascii")
    print(f"Unicode {unicodedata.unidata_version}: {len(blocks)} blocks, {len(unique)} of them unique")


if __name__ == "__main__":
    main()

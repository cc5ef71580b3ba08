"""Writes unicode_forms_tables.hpp: what normalisers and BERT's rules ask of characters.

    python native/tokenizer/make_unicode_forms_tables.py

The answers are those of the package `tokenizers`, which mixes versions of Unicode (normal forms of 9, categories of 8,
the newest lower case): it is asked character by character. From `unicodedata2` come only the combining classes and the
pairs that compose, and `tokenizers` is asked whether it knows them.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
import unicodedata2 as unicodedata
from make_unicode_tables import BLOCK, rows
from tokenizers import normalizers, pre_tokenizers

# The bits of unicode_forms.hpp.
STABLE = {"NFC": 1, "NFD": 2, "NFKC": 4, "NFKD": 8}
MARK, NONSPACING, CONTROL, PUNCTUATION, IDEOGRAPH, CASED, SPACE = (16 << bit for bit in range(7))

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
FORMS = {name: getattr(normalizers, name)() for name in STABLE}


def bert(**on: bool) -> normalizers.BertNormalizer:
    off = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return normalizers.BertNormalizer(**(off | on))


def combining_class(text: str) -> int:
    """Its canonical combining class, or 0 if `tokenizers` does not move it past another mark."""
    number = unicodedata.combining(text)
    if not number or FORMS["NFD"].normalize_str(text) != text:
        return number
    other = "\u0334" if number >= 230 else "\u0301"
    before, behind = (text, other) if number >= 230 else (other, text)
    return number if FORMS["NFD"].normalize_str("a" + before + behind) == "a" + behind + before else 0


def mappings(change: dict[int, str], pool: list[int], starts: dict[str, int]) -> list[tuple[int, int, int]]:
    """(code, start in the pool, length) for each character that changes, by code."""
    found = []
    for code, text in sorted(change.items()):
        if text not in starts:
            starts[text] = len(pool)
            pool.extend(map(ord, text))
        found.append((code, starts[text], len(text)))
    return found


def main() -> None:
    clean, accents, ideographs = bert(clean_text=True), bert(strip_accents=True), bert(handle_chinese_chars=True)
    cut, strip, marks = pre_tokenizers.BertPreTokenizer(), normalizers.Strip(), normalizers.StripAccents()
    lower = normalizers.Lowercase()
    changed = {name: {} for name in (*FORMS, "lower")}
    classes = {code: combining_class(chr(code)) for code in CODES}
    pairs = {}  # (first, second) to what they compose to
    flags = {}
    for code in CODES:
        text = chr(code)
        for name, form in FORMS.items():
            if (into := form.normalize_str(text)) != text:
                changed[name][code] = into
        if (into := lower.normalize_str(text)) != text:
            changed["lower"][code] = into
        parts = unicodedata.decomposition(text)
        if code not in HANGUL and parts and "<" not in parts and len(parts.split()) == 2:
            first, second = (int(part, 16) for part in parts.split())
            if FORMS["NFC"].normalize_str(chr(first) + chr(second)) == text:
                pairs[first, second] = code
        bits = CASED if code in changed["lower"] else 0
        between = f"a{text}b"
        if clean.normalize_str(between) == "ab":
            bits |= CONTROL
        if accents.normalize_str(between) == "ab":
            bits |= NONSPACING
        if marks.normalize_str(between) == "ab":
            bits |= MARK
        if len(ideographs.normalize_str(text)) == 3:
            bits |= IDEOGRAPH
        if len(cut.pre_tokenize_str(between)) == 3:
            bits |= PUNCTUATION
        if strip.normalize_str(text) == "":
            bits |= SPACE
        flags[code] = bits
    seconds = {second for _, second in pairs} | {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    for code in CODES:
        for name, bit in STABLE.items():
            start = changed["NFKD" if "K" in name else "NFD"].get(code, chr(code))
            if code in changed[name] or any(classes[ord(c)] for c in (chr(code), start[0])):
                continue
            if name in ("NFD", "NFKD") or ord(start[0]) not in seconds:
                flags[code] |= bit

    pool: list[int] = []
    starts: dict[str, int] = {}
    canonical = {code: text for code, text in changed["NFD"].items() if code not in HANGUL}
    compatible = {
        code: text for code, text in changed["NFKD"].items() if code not in HANGUL and canonical.get(code) != text
    }
    lists = {
        "canonical": mappings(canonical, pool, starts),
        "compatible": mappings(compatible, pool, starts),
        "lower": mappings(changed["lower"], pool, starts),
    }
    kinds: dict[tuple[int, int], int] = {}
    unique: dict[tuple[int, ...], int] = {}
    blocks = []
    surrogate = (0, sum(STABLE.values()))
    for start in range(0, 0x110000, BLOCK):
        block = []
        for code in range(start, start + BLOCK):
            kind = (classes[code], flags[code]) if code in flags else surrogate
            block.append(kinds.setdefault(kind, len(kinds)))
        blocks.append(unique.setdefault(tuple(block), len(unique)))
    assert max(len(kinds), len(unique)) <= 256
    assert len(pool) < 1 << 16
    text = f"""// Written by make_unicode_forms_tables.py from tokenizers {tokenizers.__version__}; do not edit.
#pragma once
#include <cstdint>

namespace seedbed::tokenizer::unicode_forms {{

struct Kind {{
  std::uint8_t combining_class;
  std::uint16_t flags;
}};
struct Mapping {{
  std::uint32_t code;
  std::uint16_t start;  // in the pool
  std::uint8_t length;
}};
struct Composition {{
  std::uint32_t first, second, composed;
}};

inline constexpr Kind kinds[{len(kinds)}] = {{
    {", ".join(f"{{{number},{bits}}}" for number, bits in kinds)}
}};
inline constexpr std::uint8_t blocks[{len(blocks)}] = {{
{rows(blocks, "    ")}
}};
inline constexpr std::uint8_t kind_of[{len(unique)}][{BLOCK}] = {{
"""
    for block in unique:
        text += f"    {{\n{rows(list(block), '        ')}\n    }},\n"
    text += f"}};\ninline constexpr std::uint32_t pool[{len(pool)}] = {{\n{rows(pool, '    ')}\n}};\n"
    for name, listed in lists.items():
        items = rows(["{" + ",".join(map(str, item)) + "}" for item in listed], "    ")
        text += f"inline constexpr Mapping {name}[{len(listed)}] = {{\n{items}\n}};\n"
    items = rows([f"{{{first},{second},{into}}}" for (first, second), into in sorted(pairs.items())], "    ")
    text += f"inline constexpr Composition compositions[{len(pairs)}] = {{\n{items}\n}};\n"
    text += "\n}  // namespace seedbed::tokenizer::unicode_forms\n"
    Path(__file__).with_name("unicode_forms_tables.hpp").write_text(text, encoding="ascii")
    print(f"tokenizers {tokenizers.__version__}: {len(kinds)} kinds, {len(unique)} blocks, {len(pool)} in the pool")


if __name__ == "__main__":
    main()

r"""Regular expressions of other engines, run by the package `regex` so that they match alike.

A tokenizer.json writes its expressions for Oniguruma (as `tokenizers` compiles it: Ruby's syntax), a tiktoken encoding
for Rust's fancy-regex. `translate` reads either and writes the same for `regex`; what does not mean the same in all of
them is refused by name. What is translated, because it looks alike and is not:

- `^` and `$` stand at lines in Oniguruma and at the whole text in Rust; `\Z`, `\z`, `\h`, `\R` and `\N` differ too.
- `x{1,3}+` is a repeated group in Oniguruma and possessive elsewhere; `(?m)` is what others call `(?s)`.
- Case is folded here for ASCII letters (k and s have one relative each outside of ASCII); what other letters and
  sequences like `ss` fold to differs between the engines.
- Both engines know Unicode 16. `as_unicode_16` makes `regex`, which knows a newer one, take characters added since as
  unassigned.
"""

from __future__ import annotations

import functools
from typing import Literal

import regex

Dialect = Literal["oniguruma", "rust"]

# In Oniguruma \w outside of brackets has the numbers of Latin-1; inside of brackets it has not. Nowhere has it joiners.
_WORD = r"[[\w\xb2\xb3\xb9\xbc-\xbe]--[\u200c\u200d]]"
_NO_WORD = r"[[^\w\xb2\xb3\xb9\xbc-\xbe][\u200c\u200d]]"
_WORD_IN_CLASS, _NO_WORD_IN_CLASS = r"[\w--[\u200c\u200d]]", r"[\W\u200c\u200d]"
_BOUNDARY = rf"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))"
_NO_BOUNDARY = rf"(?:(?<={_WORD})(?={_WORD})|(?<!{_WORD})(?!{_WORD}))"
_SHARED_ESCAPES = {"s": r"\s", "S": r"\S", "d": r"\d", "D": r"\D", "A": r"\A", "z": r"\z"}
_ESCAPES: dict[Dialect, dict[str, str]] = {
    "oniguruma": _SHARED_ESCAPES
    | {
        "w": _WORD,
        "W": _NO_WORD,
        "b": _BOUNDARY,
        "B": _NO_BOUNDARY,
        "Z": r"(?=\n?\z)",
        "h": "[0-9a-fA-F]",
        "H": "[^0-9a-fA-F]",
        "R": r"(?>\r\n|[\n-\r\x85\u2028\u2029])",
        "N": r"[^\n]",
        "O": r"[\s\S]",
    },
    "rust": _SHARED_ESCAPES,
}
_CLASS_ESCAPES: dict[Dialect, dict[str, str]] = {
    "oniguruma": {key: rf"\{key}" for key in "sSdD"} | {"w": _WORD_IN_CLASS, "W": _NO_WORD_IN_CLASS, "h": "0-9a-fA-F"},
    "rust": {key: rf"\{key}" for key in "sSdD"},
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}
_BRACKET_NAMES = {
    "alpha": r"\p{Alphabetic}", "digit": r"\d", "alnum": r"\p{Alphabetic}\d", "upper": r"\p{Uppercase}",
    "lower": r"\p{Lowercase}", "punct": r"\p{P}\p{S}", "space": r"\s", "blank": r"\p{Zs}\t", "cntrl": r"\p{Cc}",
    "xdigit": "0-9a-fA-F", "word": _WORD_IN_CLASS,
}  # fmt: skip
# Sequences that fold to one character, which Oniguruma then takes for them.
_FOLDED = regex.compile("ss|ff|fi|fl|st", regex.IGNORECASE)
_CASED_PROPERTY = regex.compile(r"\\[pP]\{\^?(?:L[ult]|(?:upper|lower|title).*)\}", regex.IGNORECASE)
_PROPERTY = regex.compile(r"\{(\^?)([A-Za-z0-9_ &-]+)\}|([A-Za-z])")
_INTERVAL = regex.compile(r"\{(\d*)(,?)(\d*)\}([?+]?)")
_GROUP = regex.compile(r"\?(?:[:=!>]|<[=!])")
_NAMED = regex.compile(r"\?<[A-Za-z_]\w*>")
_LOOKS = ("(?=", "(?!", "(?<=", "(?<!")
_FLAGS = regex.compile(r"\?([a-zA-Z]*)(?:-([a-zA-Z]*))?([:)])")


def translate(expression: str, dialect: Dialect = "oniguruma") -> str:
    """The expression as `regex` reads it under V1; from Rust's dialect it comes out as Oniguruma reads it too.

    Raises:
        ValueError: it is not valid, or uses what cannot be translated exactly; says what and where.
    """
    written = _Translation(expression, dialect).run()
    try:
        regex.compile(written, regex.V1)
    except regex.error as error:
        raise ValueError(f"has an expression that is not valid: {error}") from None
    return written


class _Translation:
    """One pass over an expression. `out` holds finished parts, of which the last may be repeated as a whole."""

    def __init__(self, expression: str, dialect: Dialect) -> None:
        self.text, self.dialect = expression, dialect
        self.at = 0
        self.out: list[str] = []
        self.opened: list[tuple[int, bool, bool]] = []  # parts and flags where each open group begins
        self.ignore_case = self.dot_all = False
        self.literal = ""  # the letters just read, for what they fold to together

    def run(self) -> str:
        while self.at < len(self.text):
            start = self.at
            character = self.text[start]
            self.at += 1
            step = {"\\": self._escape, "[": self._class, "(": self._open, ")": self._close}.get(character)
            if step:
                step()
            elif character in "*+?":
                self._repeat(character)
            elif character == "{":
                self._interval()
            elif character in "^$.|":
                self._sign(character)
            else:
                self._literal(character)
            if not self._is_letter(start):
                self.literal = ""
        if self.opened:
            raise self._refuse("a group that is not closed")
        return "".join(self.out)

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f"has {what} (at character {self.at} of {self.text!r}), which cannot be matched exactly")

    def _is_letter(self, start: int) -> bool:
        return self.at == start + 1 and self.text[start].isalpha()

    def _literal(self, character: str) -> None:
        if not self.ignore_case:
            self.out.append(regex.escape(character, special_only=True, literal_spaces=True))
            return
        self.literal += character
        if _FOLDED.search(self.literal[-2:]):
            raise self._refuse(f"{self.literal[-2:]!r} in any case")
        cases = self._cases(character)
        self.out.append(f"[{cases}]" if len(cases) > 1 else regex.escape(character))

    def _cases(self, character: str) -> str:
        if not character.isascii() and character.lower() != character.upper():
            raise self._refuse(f"{character!r} in any case")
        if not character.isalpha():
            return regex.escape(character)
        return character.lower() + character.upper() + {"k": "\u212a", "s": "\u017f"}.get(character.lower(), "")

    def _sign(self, character: str) -> None:
        lines = self.dialect == "oniguruma"
        written = {
            "^": r"(?:\A|(?<=\n)(?!\z))" if lines else r"\A",
            "$": r"(?=\n|\z)" if lines else r"\z",
            ".": r"[\s\S]" if self.dot_all else r"[^\n]",
            "|": "|",
        }
        self.out.append(written[character])

    def _escape(self) -> None:
        known = self._escaped(_ESCAPES[self.dialect])
        if len(known) > 1:
            self.out.append(known)
        else:
            self._literal(known)

    def _escaped(self, known: dict[str, str]) -> str:
        """What follows a backslash: one character that stands for itself, or an expression of `regex`."""
        if self.at == len(self.text):
            raise self._refuse("a backslash at its end")
        character = self.text[self.at]
        self.at += 1
        if character in "pP":
            return self._property(character == "P")
        if character in known:
            return known[character]
        if character in _CONTROLS:
            return _CONTROLS[character]
        code = regex.compile(r"x\{([0-9a-fA-F]{1,6})\}|x([0-7][0-9a-fA-F])|u([0-9a-fA-F]{4})").match(
            self.text, self.at - 1
        )
        if code:
            self.at = code.end()
            number = int(code[1] or code[2] or code[3], 16)
            if number < 0x110000 and not 0xD800 <= number < 0xE000:
                return chr(number)
        if character.isascii() and character.isalnum():
            raise self._refuse(rf"\{character}")
        return character

    def _property(self, negative: bool) -> str:
        found = _PROPERTY.match(self.text, self.at)
        if not found or (found[1] and self.dialect == "rust"):
            raise self._refuse(r"an unknown form of \p")
        self.at = found.end()
        written = rf"\{'P' if negative != bool(found[1]) else 'p'}{{{found[2] or found[3]}}}"
        if self.ignore_case and _CASED_PROPERTY.match(written):
            raise self._refuse(f"{written} in any case")
        try:
            regex.compile(written, regex.V1)
        except regex.error:
            raise self._refuse(f"the unknown property {written}") from None
        return written

    def _class(self) -> None:
        self.out.append(self._bracket())

    def _bracket(self) -> str:
        """A class of characters, past its `[`."""
        written = ["["]
        if self._take("^"):
            written.append("^")
        first, low = True, ""  # `low`: a character that may begin a range
        while first or not self._take("]"):
            if self._take("&&"):
                item, low = "&&", ""
            elif name := regex.compile(r"\[:(\^?)(\w+):\]").match(self.text, self.at):
                self.at = name.end()
                if name[2] not in _BRACKET_NAMES or (self.ignore_case and name[2] in ("upper", "lower")):
                    raise self._refuse(name[0])
                item, low = f"[{name[1]}{_BRACKET_NAMES[name[2]]}]", ""
            elif self._take("["):
                item, low = self._bracket(), ""
            elif low and self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self._class_character()
                if len(high) != 1 or high < low:
                    raise self._refuse("a range without an end")
                item, low = self._range(low, high), ""
                written.pop()
            else:
                item = self._class_character()
                low = item if len(item) == 1 else ""
                if low:
                    item = self._cases(low) if self.ignore_case else regex.escape(low)
            written.append(item)
            first = False
        return "".join(written) + "]"

    def _class_character(self) -> str:
        if self.at == len(self.text):
            raise self._refuse("a class that is not closed")
        character = self.text[self.at]
        self.at += 1
        if character != "\\":
            return character
        if self._take("b"):
            return "\b"
        return self._escaped(_CLASS_ESCAPES[self.dialect])

    def _range(self, low: str, high: str) -> str:
        if not self.ignore_case:
            return f"{regex.escape(low)}-{regex.escape(high)}"
        if not high.isascii():
            raise self._refuse(f"the range {low}-{high} in any case")
        return "".join(self._cases(chr(code)) for code in range(ord(low), ord(high) + 1))

    def _take(self, expected: str) -> bool:
        if not self.text.startswith(expected, self.at):
            return False
        self.at += len(expected)
        return True

    def _open(self) -> None:
        before = (len(self.out), self.ignore_case, self.dot_all)
        rest = self.text[self.at - 1 :]
        if not self._take("?"):
            written = "(?:"
        else:
            self.at -= 1
            if found := _GROUP.match(self.text, self.at):
                written = "(" + found[0]
            elif found := _NAMED.match(self.text, self.at):
                written = "(?:"
            elif found := _FLAGS.match(self.text, self.at):
                if found[3] == ")" and not self._nothing_before():
                    raise self._refuse(f"flags in the midst of a group, ({found[0]}")
                self._set_flags(found[1], True)
                self._set_flags(found[2] or "", False)
                written = "(?:"
            else:
                raise self._refuse(f"{rest[:4]!r}")
            self.at = found.end()
            if found[0].endswith(")"):  # flags of the group that it stands in
                return
        self.opened.append(before)
        self.out.append(written)

    def _set_flags(self, names: str, on: bool) -> None:
        dot_all = "m" if self.dialect == "oniguruma" else "s"
        for name in names:
            if name == "i":
                self.ignore_case = on
            elif name == dot_all:
                self.dot_all = on
            else:
                raise self._refuse(f"the flag {name}")

    def _close(self) -> None:
        if not self.opened:
            raise self._refuse("a ) without its (")
        begin, self.ignore_case, self.dot_all = self.opened.pop()
        group = "".join(self.out[begin:]) + ")"
        self.out[begin:] = [group]

    def _nothing_before(self) -> bool:
        begin = self.opened[-1][0] + 1 if self.opened else 0
        return len(self.out) == begin or self.out[-1] == "|"

    def _repeat(self, quantifier: str) -> None:
        if self._nothing_before():
            raise self._refuse(f"a {quantifier} with nothing to repeat")
        if self.out[-1].startswith(_LOOKS):
            raise self._refuse(f"a {quantifier} behind what only looks")
        for suffix in "?+":
            if self._take(suffix):
                quantifier += suffix
                break
        if self.at < len(self.text) and self.text[self.at] in "*+?":
            raise self._refuse("a repeated repetition")
        self.out[-1] += quantifier

    def _interval(self) -> None:
        found = _INTERVAL.match(self.text, self.at - 1)
        if not found or not (found[1] or found[3]):
            return self._literal("{")
        least, comma, most, suffix = found.groups()
        if self._nothing_before() or (most and int(most) < int(least or 0)) or (not comma and suffix == "?"):
            raise self._refuse(f"the repetition {found[0]}")
        if self.dialect == "rust" and not least:
            return self._literal("{")
        self.at = found.end()
        if self.at < len(self.text) and self.text[self.at] in "*+?{":
            raise self._refuse("a repeated repetition")
        interval = f"{{{least or 0}{comma}{most}}}"
        if suffix != "+":
            self.out[-1] += interval + suffix
        elif self.dialect == "oniguruma":
            self.out[-1] = f"(?:{self.out[-1]}{interval})+"
        else:
            self.out[-1] = f"(?>{self.out[-1]}{interval})"
        return None


# Assigned since Unicode 16, as far as `regex` knows.
_LATER = (
    "558 58b-58c 5c8-5c9 88f b53-b54 c5c cdc 1acf-1adc 1add-1af0 208f 209d-209f 20c1-20c4 2b96 2e60-2e63 a7ce-a7cf "
    "a7d2 a7d4 a7dd a7e2 a7f1 ab6c-ab6d fbc3-fbd2 fd90-fd91 fdc8-fdce 107bb-107bf 10940-10959 10ec5-10ec7 10ec9-10eee "
    "10ef0-10efb 11b0a 11b60-11b67 11db0-11ddb 11de0-11de9 11df0-11df1 1246f 12475-1247f 12550-12686 16ea0-16eb8 "
    "16ebb-16ed3 16ff2-16ff6 187f8-187ff 18cd6-18cda 18d09-18d20 18d80-18df2 18e00-19191 191a0-191d2 1b123-1b128 1b168 "
    "1ccfa-1ccfc 1ceba-1ced0 1ced2-1ced4 1cedd-1cefd 1d127-1d128 1d1eb-1d1ff 1d250-1d281 1d6a6 1db00-1db1c 1df1f-1df24 "
    "1df2b-1df81 1df90-1df96 1dfcd-1dfff 1e6c0-1e6de 1e6e0-1e6f5 1e6fe-1e6ff 1f1ae 1f6d8-1f6d9 1f777-1f77a 1f7da-1f7db "
    "1f7f1-1f7ff 1f8d0-1f8d8 1fa54-1fa57 1fa8a-1fa8e 1fac8 1facc-1facd 1fadd 1faea-1faeb 1faef 1faf9-1fafa 1fbfa "
    "2b73a-2b73f 2b81e 2cea2-2cead 323b0-33479 3d000-3fc3f"
)
_UNASSIGNED, _LOWER_CASE = "\U000e0fff", "\u0278"  # stand for what is older there and for U+0295, since moved to Lo


@functools.cache
def _later() -> regex.Pattern[str]:
    ranges = "".join("-".join(chr(int(end, 16)) for end in item.split("-")) for item in _LATER.split())
    return regex.compile(f"[{ranges}]|(\u0295)")


def as_unicode_16(text: str) -> str:
    """The text with each character that Unicode 16 judges otherwise replaced by one that it judges alike."""
    if text.isascii():
        return text
    return _later().sub(lambda match: _LOWER_CASE if match[1] else _UNASSIGNED, text)

"""Normalisation of text. What it does, in order, and nothing else:

1. line ends (CRLF, CR, NEL, line and paragraph separators, vertical tab, form feed) become LF;
2. no-break spaces become spaces; byte-order marks, soft hyphens and control characters other than LF and tab go;
3. lone surrogates, which no UTF-8 can hold, become U+FFFD;
4. Unicode Normalization Form C (UAX #15);
5. white space at the ends of lines goes, runs of empty lines become one, empty lines at both ends go.

Letter case, punctuation, quotes, indentation and joiners (scripts and emoji need them) stay as they are.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# UTF-8's first bytes and a later one, read as Latin-1 or Windows-1252; or that one's own characters read as Latin-1.
# What ftfy looks for is slow to search, and there is none of it without these.
_MISREAD = re.compile("[À-ÿ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[\x80-\x9f]")
_EMPTY_LINES = re.compile(r"\n{3,}")
_TABLE: dict[int, str | None] = {
    **{code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"},
    0xA0: " ",
    0xAD: None,
    0xFEFF: None,
    **dict.fromkeys(range(55296, 57344), "�"),
}
_SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\ufeff\u2028\u2029\ud800-\udfff]")


def repair_encoding(text: str) -> str:
    """`text` with lines put right whose UTF-8 was once read as Latin-1 or Windows-1252 ("cafÃ©" for "café"), as ftfy
    tells."""
    if text.isascii() or not _MISREAD.search(text):
        return text
    from ftfy import fix_encoding, is_bad

    return "\n".join(fix_encoding(line) if is_bad(line) else line for line in text.split("\n"))


def normalize(text: str) -> str:
    """`text` in the form that the corpus keeps. Normalising twice changes nothing."""
    if not text.isascii() or _SPECIAL.search(text):
        if _SPECIAL.search(text):
            text = _LINE_ENDS.sub("\n", text).translate(_TABLE)
        text = unicodedata.normalize("NFC", text)
    text = "\n".join(map(str.rstrip, text.split("\n")))
    return _EMPTY_LINES.sub("\n\n", text).strip("\n")

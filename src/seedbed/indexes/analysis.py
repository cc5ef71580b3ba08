"""From text to the terms of an inverted index.

Words are runs of Unicode letters, digits and underscores, lower-cased after compatibility composition (NFKC).
An identifier is found whole and by its parts: `json.JSONDecodeError` gives json.jsondecodeerror, json,
jsondecodeerror, decode, error ("json" once more, being a part of the part).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from ..core.config import Config
from ..core.errors import ConfigError

# Lucene's list (EnglishAnalyzer.ENGLISH_STOP_WORDS_SET).
ENGLISH_STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of"}
    | {"on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will"}
    | {"with"}
)

_WORD = re.compile(r"\w+(?:\.\w+)*")
_PLAIN = re.compile(r"[^\W\d_]+\Z")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


class AnalyzerConfig(Config):
    """How text becomes terms."""

    identifiers: bool = True
    """also index the parts of dotted names, snake_case and camelCase"""
    stop_words: bool | tuple[str, ...] = True
    """leave out the most common English words, or the words given here"""
    stemmer: str = "english"
    """a language of Snowball, `plural` (files and file are one term: Harman's S stemmer), or `none`"""


class Analyzer:
    """Callable from text to its list of terms, in the text's order.

    Raises:
        ConfigError: Snowball has no such language.
    """

    def __init__(self, config: AnalyzerConfig | None = None) -> None:
        self.config = config or AnalyzerConfig()
        words = self.config.stop_words
        self._stop = ENGLISH_STOP_WORDS if words is True else frozenset(word.lower() for word in words or ())
        self._stem = _stemmer(self.config.stemmer)
        self._known: dict[str, tuple[str, ...]] = {}  # texts repeat their words

    def __call__(self, text: str) -> list[str]:
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
        terms: list[str] = []
        known = self._known
        for word in _WORD.findall(text):
            found = known.get(word)
            if found is None:
                found = self._terms(word)
                if len(known) < 1_000_000:
                    known[word] = found
            terms.extend(found)
        return terms

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the words stand that terms are made of: start and end of each."""
        return (match.span() for match in _WORD.finditer(text))

    def _terms(self, word: str) -> tuple[str, ...]:
        if not self.config.identifiers:
            return tuple(self._finish(part) for part in word.split(".") if part.lower() not in self._stop)
        if _PLAIN.match(word) and (word.islower() or word.istitle() or word.isupper()):
            return () if word.lower() in self._stop else (self._finish(word),)
        terms = [word.lower()]
        for name in word.split("."):
            parts = _PART.findall(name)
            terms += [name.lower(), *(part.lower() for part in parts)]
        distinct = dict.fromkeys(term for term in terms if term.strip("_") and term not in self._stop)
        return tuple(dict.fromkeys(self._finish(term) for term in distinct))

    def _finish(self, word: str) -> str:
        return self._stem(word.lower())


def _stemmer(name: str) -> Callable[[str], str]:
    if name == "none":
        return str
    if name == "plural":
        return _singular
    import Stemmer  # Snowball's own C library

    if name not in Stemmer.algorithms():
        raise ConfigError(f"stemmer '{name}' is unknown (known: none, plural, {', '.join(Stemmer.algorithms())})")
    # One for each caller: a stemmer holds the word that it works on.
    return lambda word: str(Stemmer.Stemmer(name, 0).stemWord(word))


def _singular(word: str) -> str:
    """Harman, "How effective is suffixing?" (1991): the three rules of the S stemmer."""
    if len(word) < 4 or not word.endswith("s") or not word.isalpha():
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]

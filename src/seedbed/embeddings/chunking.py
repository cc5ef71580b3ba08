"""Documents to passages: what a search finds and shows.

Cut at headings and paragraphs, and only where one of them is too long at sentences, then at words. Short pieces that
follow each other are joined as long as they fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)")
_SPACE = re.compile(r"\s")
_NEAR = 256  # characters
_HEADING = re.compile(r"#{1,6}\s+\S|[^\n]{1,80}\n([=\-~^*\"])\1{2,}\s*(\n|$)")

CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `id` is the document's id with `#n`, n from 0; `metadata` is the document's, as JSON."""

    id: str
    document: str
    title: str
    source: str
    text: str
    language: str = ""
    metadata: str = ""

    @property
    def searchable(self) -> str:
        """The text with the title before it, unless it begins with it."""
        return self.text if not self.title or self.text.startswith(self.title) else f"{self.title}\n\n{self.text}"


def token_counter(tokenizer: Any) -> CountTokens:
    return lambda texts: tokenizer.encode_batch(list(texts)).lengths.tolist()


def make_passages(documents: Iterable[Mapping[str, Any]], count_tokens: CountTokens, max_tokens: int) -> list[Passage]:
    """Passages of at most `max_tokens` tokens (a single word longer than that stays whole), in the documents' order.

    Args:
        documents: with `id`, `title`, `source` and `text`, and perhaps `language` and `metadata`.
        count_tokens: tokens of each of many texts.
    """
    listed = list(documents)
    pieces = [[part.strip() for part in _PARAGRAPH.split(document["text"]) if part.strip()] for document in listed]
    counts = iter(count_tokens([piece for one in pieces for piece in one]))
    passages: list[Passage] = []
    for document, paragraphs in zip(listed, pieces, strict=True):
        sized = [(piece, next(counts)) for piece in paragraphs]
        for number, text in enumerate(_join(_fit(sized, count_tokens, max_tokens), max_tokens)):
            passages.append(
                Passage(
                    f"{document['id']}#{number}", document["id"], document["title"] or "", document["source"], text,
                    document.get("language") or "", document.get("metadata") or "",
                )
            )  # fmt: skip
    return passages


def _fit(sized: Iterable[tuple[str, int]], count_tokens: CountTokens, limit: int) -> list[tuple[str, int, str]]:
    """(piece, tokens, what joins it to the piece before), each within the limit."""
    out: list[tuple[str, int, str]] = []
    for piece, tokens in sized:
        if tokens <= limit:
            out.append((piece, tokens, "\n\n"))
            continue
        sentences = _SENTENCE.split(piece)
        if len(sentences) == 1:
            sentences, glue = _halves(piece), " "
            if len(sentences) == 1:
                out.append((piece, tokens, "\n\n"))
                continue
        else:
            glue = " "
        smaller = _fit(zip(sentences, count_tokens(sentences), strict=True), count_tokens, limit)
        out += [(text, size, "\n\n" if i == 0 else glue) for i, (text, size, _) in enumerate(smaller)]
    return out


def _halves(piece: str) -> list[str]:
    """Cut at the white space nearest to the middle; a single word stays whole."""
    middle = len(piece) // 2
    spaces: list[int] = []
    for reach in (_NEAR, len(piece)):  # seldom all of it
        low, high = max(1, middle - reach), min(len(piece) - 1, middle + reach + 1)
        spaces = [match.start() for match in _SPACE.finditer(piece, low, high)]
        if spaces:
            break
    if not spaces:
        return [piece]
    cut = min(spaces, key=lambda place: abs(place - middle))
    return [part for part in (piece[:cut].strip(), piece[cut:].strip()) if part]


def _join(pieces: Iterable[tuple[str, int, str]], limit: int) -> list[str]:
    texts: list[str] = []
    room = 0
    for piece, tokens, glue in pieces:
        cost = tokens + 1  # the join itself
        if texts and cost <= room and not _HEADING.match(piece):
            texts[-1] += glue + piece
            room -= cost
        else:
            texts.append(piece)
            room = limit - tokens
    return texts

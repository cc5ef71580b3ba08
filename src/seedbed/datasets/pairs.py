"""(query, text) pairs from the documents themselves: what a document is called, or how it opens, against the rest.

Works for any titled or untitled prose; nothing is known here about Python. The same cut makes the held-out queries of
the evaluation, where the part that became the query is taken out of the text that is to be found (as in the inverse
cloze task, Lee et al. 2019, section 4), so that no query is answered by finding itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^\sa-z])|\n\s*\n")
_LOWER_CASE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=\S)|\n\s*\n")  # of text without a capital letter
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_COLUMNS = ["id", "text", "title", "source", "language", "metadata"]
_SHORTEST_QUERY = 4  # words
_LONGEST_QUERY = 40
_FILE_SUFFIX = re.compile(r"\.(txt|md|rst|html?|jsonl|csv|parquet|gz|zip)$")


@dataclass(frozen=True)
class Pair:
    """A query and a text that answers it. `group` is where both come from; pairs of a group make hard negatives."""

    query: str
    text: str
    document: str
    group: str


@dataclass(frozen=True)
class Cut:
    """A document in three: its heading (often a name with a signature), its opening sentence, and the rest."""

    heading: str
    opening: str
    rest: str

    @property
    def without_opening(self) -> str:
        return "\n\n".join(part for part in (self.heading, self.rest) if part)


def read_corpus(corpus: Path, split: str) -> list[dict[str, Any]]:
    """The rows (id, text, title, source, language, metadata) of one split of a corpus artifact, in its files' order.

    Raises:
        DataError: there is no such split.
    """
    import pyarrow.parquet as parquet

    files = sorted((corpus / split).glob("*.parquet"))
    if not files:
        raise DataError(f"the corpus has no split '{split}'", where=corpus)
    rows: list[dict[str, Any]] = []
    for file in files:
        rows += parquet.read_table(file, columns=_COLUMNS).to_pylist()
    return rows


def cut_document(text: str, title: str) -> Cut:
    """Heading, opening sentence, rest. Without a heading, the heading is empty."""
    head, blank, body = text.strip().partition("\n\n")
    is_heading = bool(blank) and "\n" not in head and (head.startswith((title, "#")) if title else head.startswith("#"))
    heading, body = (head, body.strip()) if is_heading else ("", text.strip())
    end = (_LOWER_CASE_END if body.islower() else _SENTENCE_END).search(body)
    opening, rest = (body[: end.start()], body[end.end() :]) if end else (body, "")
    return Cut(heading, " ".join(opening.split()), rest.strip())


def name_words(title: str) -> str:
    """`http.server.BaseHTTPRequestHandler` to `http server base http request handler`; a file's suffix goes."""
    return " ".join(_WORDS.findall(_FILE_SUFFIX.sub("", title))).lower()


def make_pairs(documents: Iterable[Mapping[str, Any]]) -> list[Pair]:
    """Up to two pairs a document: (the words of its title, the text without its heading) and (opening, the others)."""
    pairs: list[Pair] = []
    for document in documents:
        title, cut = document["title"] or "", cut_document(document["text"], document["title"] or "")
        whole = "\n\n".join(part for part in (cut.opening, cut.rest) if part)
        name = name_words(title)
        if name and whole:
            pairs.append(Pair(name, whole, document["id"], document["source"]))
        query = _as_query(cut.opening)
        answer = cut.without_opening or name
        if query and answer:
            pairs.append(Pair(query, answer, document["id"], document["source"]))
    return pairs


def held_out_queries(documents: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]] = ()) -> list[Pair]:
    """Known-item queries: each held-out document's opening sentence, to find it by its heading and its rest.

    Openings that another document shares (also one of `others`) have no single right answer and are left out.
    """
    documents = list(documents)
    openings = Counter(_as_query(cut_document(d["text"], d["title"] or "").opening) for d in [*documents, *others])
    return [pair for pair in _openings(documents) if openings[pair.query] == 1]


def _openings(documents: Iterable[Mapping[str, Any]]) -> Iterator[Pair]:
    for document in documents:
        cut = cut_document(document["text"], document["title"] or "")
        query = _as_query(cut.opening)
        if query and cut.without_opening:
            yield Pair(query, cut.without_opening, document["id"], document["source"])


def _as_query(opening: str) -> str:
    words = opening.split()
    return " ".join(words[:_LONGEST_QUERY]).rstrip(".") if len(words) >= _SHORTEST_QUERY else ""

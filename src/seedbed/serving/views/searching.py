"""One query asked in several ways, each with its time and its reasons."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import ConfigError
from .materials import Materials
from .overview import modes_of

if TYPE_CHECKING:
    from ...embeddings.search import Hit, Searcher

_LONGEST_TEXT = 1200  # characters of a passage that are shown


def search(materials: Materials, query: str, modes: Sequence[str], k: int, filter: str = "") -> list[dict[str, Any]]:
    """For each mode its hits and the milliseconds of the search alone, without the reasons.

    Raises:
        ConfigError: the run has no index, a mode is not there, or the filter cannot be read.
    """
    searcher = materials.searcher
    if searcher is None:
        raise ConfigError("this run has no search index", hint="Build one: seedbed index --run RUN.")
    known = modes_of(searcher)
    for mode in modes:
        if mode not in known:
            raise ConfigError(f"this index cannot be searched by '{mode:.40}' (there are: {', '.join(known)})")
    return [_asked(searcher, query, mode, k, filter.strip() or None) for mode in modes]


def _asked(searcher: Searcher, query: str, mode: str, k: int, filter: str | None) -> dict[str, Any]:
    start = time.perf_counter()
    searcher.search(query, k, mode, filter=filter)
    seconds = time.perf_counter() - start
    hits = searcher.search(query, k, mode, filter=filter, explain=True)
    return {"mode": mode, "milliseconds": 1000 * seconds, "hits": [_told(hit) for hit in hits]}


def _told(hit: Hit) -> dict[str, Any]:
    shown = hit.text[:_LONGEST_TEXT]
    matches = [] if hit.why is None else hit.why.matches
    ranks = {} if hit.why is None else hit.why.ranks
    return {
        "id": hit.id,
        "title": hit.title,
        "source": hit.source,
        "text": shown,
        "cut": len(shown) < len(hit.text),
        "score": hit.score,
        "missing": hit.missing,
        "ranks": [{"mode": mode, "rank": rank, "score": score} for mode, (rank, score) in ranks.items()],
        "marks": _marks([(one.start, one.end, one.by) for one in matches if 0 <= one.start < one.end <= len(shown)]),
        "words": _words([(one.query, one.text, one.by, one.weight) for one in matches]),
    }


def _marks(found: Sequence[tuple[int, int, str]]) -> list[dict[str, Any]]:
    """Places in the text to set apart, in order, none inside of another."""
    marks: list[dict[str, Any]] = []
    for start, end, by in sorted(found):
        if not marks or start >= marks[-1]["end"]:
            marks.append({"start": start, "end": end, "by": by})
    return marks


def _words(found: Sequence[tuple[str, str, str, float]]) -> list[dict[str, Any]]:
    """Each piece of the query once, with what answers it."""
    words: dict[tuple[str, str], dict[str, Any]] = {}
    for query, text, by, weight in found:
        words.setdefault((query, by), {"query": query, "text": text, "by": by, "weight": weight})
    return list(words.values())

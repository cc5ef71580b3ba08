"""A search index in another engine, and back: passages as points with vectors, BM25 and their text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import sha256_file
from ..core.config import Config, build, fingerprint
from ..core.errors import ConfigError, DataError, disk_errors
from ..indexes import AnalyzerConfig, BM25Index, FlatIndex, HNSWIndex
from ..indexes.handover import Agreement, Collection, Point, Sparse, agreement, hand_over
from ..indexes.points import layout_of, points_of
from .chunking import Passage
from .passages import FIELDS, NEEDED, write_passages
from .search import BM25, DENSE, PASSAGES, Searcher, SearchSettings, write_settings

DENSE_NAME, SPARSE_NAME = "dense", "bm25"


class _Graph(Config):
    m: int
    ef_construction: int
    seed: int


class _Words(Config):
    k1: float
    b: float
    analyzer: AnalyzerConfig


class _About(Config):
    """What a collection says about the index that it was made from: all that building it again takes."""

    source: str
    passages: int
    settings: SearchSettings
    graph: _Graph
    words: _Words


def export_search(
    directory: str | Path,
    to: Collection,
    *,
    replace: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[int, int]:
    """Hand a search index over; a passage's number is its point's id. Returns (passages, those not there before).

    Raises:
        ArtifactError: there is no search index in `directory`.
        ConfigError: a collection of other content is there.
    """
    searcher = Searcher.open(directory)
    assert searcher.dense is not None
    dense, words = searcher.dense, searcher.bm25
    files = [(name, sha256_file(Path(directory) / searcher.settings.file(name))) for name in (DENSE, BM25, PASSAGES)]
    about = _About(
        source=fingerprint(files),
        passages=len(searcher.passages),
        settings=searcher.settings,
        graph=_Graph(m=dense.m, ef_construction=dense.ef_construction, seed=dense.seed),
        words=_Words(k1=words.k1, b=words.b, analyzer=words.analyzer),
    )
    layout = layout_of({DENSE_NAME: dense}, {SPARSE_NAME: words}, about=about.model_dump(mode="json"))

    def payload(number: int) -> dict[str, Any]:
        return {name: getattr(searcher.passages[number], name) for name in FIELDS}

    points = points_of({DENSE_NAME: dense}, {SPARSE_NAME: words}, payload=payload)
    written = hand_over(points, layout, to, replace=replace, advance=advance)
    return len(searcher.passages), written


def check_search(directory: str | Path, there: Collection, queries: int = 100, k: int = 10) -> dict[str, Agreement]:
    """How answers there compare with ours, exact, for titles as words and passages' own vectors as meanings."""
    searcher = Searcher.open(directory)
    assert searcher.dense is not None
    dense, words = searcher.dense, searcher.bm25
    rows = np.unique(np.linspace(0, len(searcher.passages) - 1, queries).astype(np.int64))
    numbers = searcher.passages.numbers[rows]
    flat = FlatIndex(dense.dim, dense.metric)
    flat.add(dense.vectors(dense.ids), dense.ids)
    vectors = dense.vectors(numbers)
    titles = [searcher.passages[number].title or searcher.passages[number].text[:40] for number in numbers.tolist()]
    asked = [Sparse(*pair) for pair in zip(*words.sparse_queries(titles), strict=True)]
    return {
        DENSE_NAME: agreement(
            [there.search(DENSE_NAME, vector, k) for vector in vectors], flat.search(vectors, k), dense.metric
        ),
        SPARSE_NAME: agreement(
            [there.search(SPARSE_NAME, one, k) if len(one.values) else [] for one in asked], words.search(titles, k)
        ),
    }


def import_search(
    there: Collection, out: str | Path, *, advance: Callable[[int], None] = lambda count: None
) -> tuple[int, int]:
    """Build a search index in `out` from a collection that `export_search` wrote. Returns (passages, those exported).

    BM25 is built anew from the texts. Points that came or went since then count: passages are numbered anew.

    Raises:
        ConfigError: `out` is there already, or the collection is none of these.
        DataError: a point is no passage.
    """
    out = Path(out)
    if out.exists():
        raise ConfigError("is there already", where=out, hint="Give another --out.")
    layout = there.layout() if there.exists() else None
    if layout is None or DENSE_NAME not in layout.spaces:
        raise ConfigError("no search index of seedbed is there", where=there.where)
    about = build(_About, layout.about, where=there.where)
    dim = layout.spaces[DENSE_NAME].dim
    passages: list[Passage] = []
    vectors: list[np.ndarray] = []
    for point in there.points():
        passages.append(_passage(point, there.where))
        vectors.append(point.vectors[DENSE_NAME])
        advance(1)
    if not passages:
        raise DataError("the collection is empty", where=there.where, hint="Export the index again.")

    words = BM25Index(about.words.k1, about.words.b, about.words.analyzer)
    words.add([passage.searchable for passage in passages])
    graph = about.graph
    dense = HNSWIndex(dim, layout.spaces[DENSE_NAME].metric, graph.m, graph.ef_construction, 1, graph.seed)
    dense.add(np.stack(vectors))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with disk_errors(out):
        try:
            partial.mkdir(parents=True)
            write_passages(partial / PASSAGES, passages)
            words.save(partial / BM25)
            dense.save(partial / DENSE)
            write_settings(partial, about.settings)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return len(passages), about.passages


def _passage(point: Point, where: str) -> Passage:
    values = [point.payload.get(name, None if name in NEEDED else "") for name in FIELDS]
    if DENSE_NAME not in point.vectors or not all(isinstance(value, str) for value in values):
        raise DataError(
            f"point {point.id} is no passage: its vector or one of {', '.join(NEEDED)} is missing", where=where
        )
    return Passage(*map(str, values))

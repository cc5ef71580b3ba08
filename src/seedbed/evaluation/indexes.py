"""How far indexes can be trusted: recall against the exact answer, what is to blame for the rest, speed, memory.

A true neighbour that a search misses was lost by quantisation if the same search finds it when it compares with whole
vectors instead of codes, and else by the structure: the graph did not lead there, or the partition was not probed.
q queries, k neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..indexes import FlatIndex
from ..indexes.base import Floats, Ids
from .index_setups import Setup
from .retrieval import neighbour_recall

_ROUNDS, _LEAST_SECONDS, _LONG_SECONDS = 3, 0.03, 0.3


@dataclass(frozen=True)
class Loss:
    """Shares of the true neighbours; they sum to 1."""

    found: float
    by_structure: float
    by_quantisation: float


@dataclass(frozen=True)
class Point:
    """A search of one width.

    Attributes:
        value: of the setup's dial.
        loss: None where codes cannot be left out, so that the loss cannot be told apart.
        queries_per_second: of processor time, on one thread: on a machine that does nothing else, of time.
        alone: recall where codes have the last word, if the setup can do without reranking.
    """

    value: int | None
    recall: float
    queries_per_second: float
    loss: Loss | None
    alone: float | None = None


@dataclass(frozen=True)
class Curve:
    """A setup, built and measured over its dial."""

    setup: Setup
    points: tuple[Point, ...]
    build_seconds: float
    memory_bytes: int
    memory_bytes_predicted: int

    def at(self, recall: float) -> Point | None:
        """The fastest point that reaches `recall`."""
        reached = [point for point in self.points if point.recall >= recall]
        return max(reached, key=lambda point: point.queries_per_second, default=None)


def split_loss(exact: Ids, found: Ids, structure: Ids | None = None) -> Loss:
    """Where the true neighbours went.

    Args:
        exact: (q, k) the true ones; padding (-1) does not count.
        found: (q, k) by the search as it is.
        structure: (q, k) by the same search on whole vectors; all are found by it if left out (there is no structure).
    """
    true = exact >= 0
    hit = _member(exact, found) & true
    reached = true if structure is None else (_member(exact, structure) & true)
    total = max(1, int(true.sum()))
    missed = true & ~hit
    return Loss(
        int(hit.sum()) / total, int((missed & ~reached).sum()) / total, int((missed & reached).sum()) / total
    )  # fmt: skip


def _member(exact: Ids, found: Ids) -> np.ndarray:
    """(q, k) whether each of `exact` is in the same row of `found` (q, any)."""
    return (exact[:, :, None] == found[:, None, :]).any(2)


def exact_neighbours(vectors: Floats, queries: Floats, k: int, metric: str, threads: int | None = None) -> Ids:
    index = FlatIndex(vectors.shape[1], metric)
    index.add(vectors)
    return index.search(queries, k, threads=threads)[1]


def measure_setup(
    setup: Setup, vectors: Floats, queries: Floats, exact: Ids, metric: str, *, seed: int = 0,
    threads: int | None = None, split: bool = True, enough: float = 1.0,
) -> Curve:  # fmt: skip
    """Build a setup on `vectors` (n, dim) and measure it over its dial.

    Args:
        threads: for building; searches are timed on one.
        split: tell losses apart, which takes a second search.
        enough: the recall past which wider searches are left out.
    """
    start = time.perf_counter()
    index = setup.build(vectors, metric, seed=seed, threads=threads)
    seconds = time.perf_counter() - start
    points = measure_dial(setup, index, queries, exact, split=split, enough=enough)
    predicted = setup.predict_memory_bytes(len(vectors), vectors.shape[1], metric)
    return Curve(setup, tuple(points), seconds, index.memory_bytes(), predicted)


def measure_dial(
    setup: Setup, index: Any, queries: Floats, exact: Ids, *, split: bool = True, enough: float = 1.0
) -> list[Point]:
    """Recall, speed and loss of a built index over its dial, up to the first value that reaches `enough`."""
    found: dict[int | None, Ids] = {}
    seconds: dict[int | None, float] = {}
    for value in setup.values:
        found[value], seconds[value] = _timed(setup, index, queries, exact.shape[1], value)
        if neighbour_recall(found[value], exact) >= enough:
            break
    # Over the whole dial several times, and the fastest of each: others are slower by what else the machine does. Long
    # searches suffer least from that.
    for _ in range(_ROUNDS - 1):
        for value, best in seconds.items():
            if best < _LONG_SECONDS:
                seconds[value] = min(best, _timed(setup, index, queries, exact.shape[1], value)[1])
    return [
        Point(
            value, neighbour_recall(ids, exact), len(queries) / seconds[value],
            _loss(setup, index, queries, exact, value, ids) if split else None,
            _alone(setup, index, queries, exact, value) if split else None,
        )
        for value, ids in found.items()
    ]  # fmt: skip


def _timed(setup: Setup, index: Any, queries: Floats, k: int, value: int | None) -> tuple[Ids, float]:
    """What is found, and seconds of processor time: of repeated searches, until these can be measured."""
    start, passes, spent = time.process_time(), 0, 0.0
    while not passes or spent < _LEAST_SECONDS:
        found = setup.search(index, queries, k, value)
        passes, spent = passes + 1, time.process_time() - start
    return found, max(spent, 1e-9) / passes


def _loss(setup: Setup, index: Any, queries: Floats, exact: Ids, value: int | None, found: Ids) -> Loss | None:
    if setup.exact is not None:
        structure = setup.search(index, queries, exact.shape[1], value, **setup.exact, threads=None)
        return split_loss(exact, found, structure)
    if setup.coded and setup.structure != "none":
        return None
    # Nothing but codes can lose where there is no structure, and nothing but the structure where there are no codes.
    return split_loss(exact, found, None if setup.coded else found)


def _alone(setup: Setup, index: Any, queries: Floats, exact: Ids, value: int | None) -> float | None:
    if setup.alone is None:
        return None
    dial = {} if setup.dial is None else {setup.dial: value}
    options = {**dial, **setup.alone, "threads": None}
    return neighbour_recall(index.search(queries, exact.shape[1], **options)[1], exact)


def frontier(points: Iterable[tuple[float, float]]) -> list[int]:
    """Places of the (recall, speed) points that no other one beats in both, from the fastest to the most exact."""
    listed = list(points)
    order = sorted(range(len(listed)), key=lambda place: (-listed[place][1], -listed[place][0], place))
    best, kept = -1.0, []
    for place in order:
        if listed[place][0] > best:
            best = listed[place][0]
            kept.append(place)
    return kept

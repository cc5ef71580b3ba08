"""The index and its parameters for somebody's own vectors, machine, recall and memory: measured, not guessed.

Recalls are measured and repeat; speeds are measured too and vary from run to run. Given both, the choice is a function
of them (`choose`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.console import progress
from ..core.errors import ConfigError
from ..indexes.base import check_size
from .index_setups import FLAT, Setup, candidate_setups
from .indexes import Point, exact_neighbours, frontier, measure_dial, measure_setup
from .vector_sources import VectorSet

ALIKE = 0.9  # speeds closer than this differ by noise: memory decides then
_SPARE = 0.3  # share of the missing neighbours by which the target is exceeded on the sample, as sets grow harder


@dataclass(frozen=True)
class Candidate:
    """A setup at one value of its dial, as measured on a sample and expected on the whole set.

    Attributes:
        queries_per_second: on one thread, expected on the whole set.
        memory_bytes: predicted for the whole set.
        build_seconds: on the sample.
    """

    setup: Setup
    value: int | None
    recall: float
    queries_per_second: float
    memory_bytes: int
    build_seconds: float


@dataclass(frozen=True)
class Choice:
    """What was chosen, from what, and why.

    Attributes:
        candidates: all that was measured.
        frontier: places in `candidates` of those that no other one beats in recall and speed.
        too_large: (title, bytes) of setups left out because of the limit.
        measured_on: vectors in the sample; `count` in the whole set.
    """

    chosen: Candidate
    why: str
    candidates: tuple[Candidate, ...]
    frontier: tuple[int, ...]
    too_large: tuple[tuple[str, int], ...]
    recall: float
    k: int
    measured_on: int
    count: int


@dataclass(frozen=True)
class Built:
    """The chosen index on the whole set, its dial set anew there.

    Attributes:
        point: as measured on the whole set; its recall falls short of the target if no value of the dial reaches it.
    """

    index: Any
    setup: Setup
    point: Point


def choose(candidates: Sequence[Candidate], recall: float, enough_speed: float = 0.0) -> tuple[Candidate, str]:
    """The candidate to take, and why: the exact scan if it is fast enough; else the fastest of those that reach
    `recall`, and the smallest of those that are about as fast.

    Raises:
        ConfigError: none reaches it.
    """
    reached = [one for one in candidates if one.recall >= recall]
    if not reached:
        best = max((one.recall for one in candidates), default=0.0)
        raise ConfigError(
            f"no index reaches a recall of {recall:g} here (the best: {best:.4f})",
            hint="Lower the recall or allow more memory.",
        )
    scans = [one for one in reached if one.setup is FLAT]
    if scans and scans[0].queries_per_second >= enough_speed > 0:
        speed = scans[0].queries_per_second
        return scans[0], f"an exact scan answers {speed:,.0f} queries per second, which is enough, and loses nothing"
    fastest = max(reached, key=lambda one: one.queries_per_second)
    alike = [one for one in reached if one.queries_per_second >= ALIKE * fastest.queries_per_second]
    smallest = min(alike, key=lambda one: (one.memory_bytes, -one.queries_per_second))
    if smallest is fastest:
        return fastest, f"the fastest of {len(reached)} searches that reach the recall"
    return smallest, (
        f"about as fast as the fastest of {len(reached)} searches that reach the recall ({fastest.setup.title}), and "
        f"smaller: {smallest.memory_bytes / fastest.memory_bytes:.0%} of its memory"
    )


def autotune(
    source: VectorSet, recall: float = 0.95, *, k: int = 10, memory_limit: int | None = None,
    enough_speed: float = 1000.0, sample: int = 20_000, queries: int = 500, seed: int = 0, threads: int | None = None,
) -> Choice:  # fmt: skip
    """Choose an index for `source` by measuring candidates on a sample of its vectors.

    Memory is predicted for the whole set before anything is built. Speeds on the sample are carried over by how each
    kind grows (linear for scans, square root for partitions, logarithm for graphs); `build_chosen` measures what is so
    expected. Where the sample is not the whole set, its recall must exceed the target by some.

    Args:
        recall: share of the k true neighbours that must be found, above 0 and up to 1.
        memory_limit: bytes that the index may take on the whole set.
        enough_speed: queries per second (one thread) at which an exact scan is taken whatever else is faster; 0: never.

    Raises:
        ConfigError: a number out of range, or nothing fits.
    """
    if not 0 < recall <= 1:
        raise ConfigError(f"a recall must lie above 0 and be 1 at most, not {recall!r}")
    check_size("k", k, 1, 1 << 20)
    drawn = source.sampled(sample, queries, seed)
    count, dim = source.vectors.shape
    measured_on = len(drawn.vectors)
    needed = recall if measured_on == count else recall + _SPARE * (1 - recall)
    exact = exact_neighbours(drawn.vectors, drawn.queries, k, drawn.metric, threads)
    candidates: list[Candidate] = []
    too_large: list[tuple[str, int]] = []
    setups = _aligned(measured_on, count, dim)
    with progress("measure", total=len(setups)) as task:
        for setup, whole in setups:
            memory = whole.predict_memory_bytes(count, dim, drawn.metric)
            if memory_limit is not None and memory > memory_limit:
                too_large.append((setup.title, memory))
            else:
                curve = measure_setup(
                    setup, drawn.vectors, drawn.queries, exact, drawn.metric, seed=seed, threads=threads, split=False,
                    enough=max(needed, 0.995),
                )  # fmt: skip
                slower = setup.slowdown(measured_on, count)
                candidates += [
                    Candidate(whole, one.value, one.recall, one.queries_per_second / slower, memory,
                              curve.build_seconds)
                    for one in curve.points
                ]  # fmt: skip
            task.advance(1, last=setup.title)
    if not candidates:
        smallest = min(bytes_ for _, bytes_ in too_large)
        raise ConfigError(f"no index fits into {memory_limit:,} bytes (the smallest needs {smallest:,})")
    chosen, why = choose(candidates, needed, enough_speed)
    places = frontier([(one.recall, one.queries_per_second) for one in candidates])
    return Choice(
        chosen, why, tuple(candidates), tuple(places), tuple(too_large), recall, k, measured_on, count
    )  # fmt: skip


def _aligned(measured_on: int, count: int, dim: int) -> list[tuple[Setup, Setup]]:
    """Setups for the sample, each with its like for the whole set (a partition has more lists there)."""
    whole = {setup.title: setup for setup in candidate_setups(count, dim)}
    return [(setup, whole[setup.title]) for setup in candidate_setups(measured_on, dim)]


def build_chosen(
    choice: Choice, source: VectorSet, *, queries: int = 500, seed: int = 0, threads: int | None = None
) -> Built:
    """Build the chosen index on all of `source`, and set its dial by what it finds there.

    Vectors that were held out to ask with join the index once its dial is set.
    """
    setup, metric = choice.chosen.setup, source.metric
    asked = source.sampled(len(source.vectors), queries, seed).queries
    index = setup.build(source.vectors, metric, seed=seed, threads=threads)
    exact = exact_neighbours(source.vectors, asked, choice.k, metric, threads)
    points = measure_dial(setup, index, asked, exact, split=False, enough=choice.recall)
    reached = [point for point in points if point.recall >= choice.recall]
    point = reached[0] if reached else max(points, key=lambda one: one.recall)
    if source.held_out:
        index.add(np.ascontiguousarray(source.queries))
    return Built(index, setup, point)

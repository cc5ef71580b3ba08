"""Hand-over: points with their vectors and payloads to another engine, and back.

A point has an id, dense vectors (dim,) and multi-vectors (n, dim) under names, sparse vectors under names, and a
payload (JSON). Points are streamed in batches, so a collection of any size passes through little memory. An engine is
a `Collection`; qdrant.py and qdrant_edge.py are two.

What is written tells what it is: the layout, with the fingerprint of the source in `about`, lies beside the points.
So an export that was interrupted goes on where it stopped, and nothing else is ever written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ..core.config import Config
from ..core.errors import ConfigError, DataError
from .base import Floats, Found, Metric

_MOST_POINTS = 256
_MOST_NUMBERS = 200_000  # about 4 MB as JSON, of the 32 MB that a Qdrant server takes at once
_MOST_CHARACTERS = 4_000_000
_TOLERANCE = 1e-5


class Sparse(NamedTuple):
    """A sparse vector: ascending indices (n,) uint32, and values (n,) float32."""

    indices: npt.NDArray[np.uint32]
    values: Floats


@dataclass(frozen=True)
class Point:
    """What an engine keeps under one id."""

    id: int
    vectors: dict[str, Floats] = field(default_factory=dict)
    sparse: dict[str, Sparse] = field(default_factory=dict)
    payload: dict[str, Any] = field(default_factory=dict)


class Space(Config):
    """Where the vectors of one name live."""

    dim: int = Field(ge=1, le=65536)
    metric: Metric
    many: bool = False
    """several vectors a point, compared by MaxSim: the sum over the query's of the best product with the point's"""
    m: int | None = Field(None, ge=0, le=512, description="HNSW: links; 0 for none, None for the engine's own choice")
    ef_construction: int | None = Field(None, ge=4)


class Layout(Config):
    """The shape of a collection, and what was put into it."""

    spaces: dict[str, Space] = Field(default_factory=dict)
    sparse: tuple[str, ...] = ()
    """names of sparse vectors; the engine weighs each index of a query by its idf"""
    about: dict[str, Any] = Field(default_factory=dict)


class Collection(Protocol):
    """A set of points in another engine."""

    where: str  # for messages

    def exists(self) -> bool: ...

    def layout(self) -> Layout | None:
        """Of the collection that is there; None if another program made it."""
        ...

    def create(self, layout: Layout) -> None: ...

    def drop(self) -> None: ...

    def present(self, ids: Sequence[int]) -> set[int]: ...

    def upsert(self, points: Sequence[Point]) -> None: ...

    def count(self) -> int: ...

    def points(self) -> Iterator[Point]:
        """All of them, ascending by id."""
        ...

    def search(self, name: str, query: Floats | Sparse, k: int, *, exact: bool = False) -> list[tuple[int, float]]:
        """(id, score) of the k best for one query."""
        ...

    def close(self) -> None: ...


def hand_over(
    points: Iterable[Point],
    layout: Layout,
    to: Collection,
    *,
    replace: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Write `points` into the collection `to`, and say how many were not there yet.

    Started again after an interruption it writes what is missing.

    Args:
        replace: remove a collection of other content first.
        advance: called with the number of points of each batch that is done.

    Raises:
        ConfigError: a collection of other content is there.
        DataError: it holds another number of points in the end.
    """
    _prepare(layout, to, replace)
    written = total = 0
    for batch in batches(points):
        present = to.present([point.id for point in batch])
        missing = [point for point in batch if point.id not in present]
        if missing:
            to.upsert(missing)
        written, total = written + len(missing), total + len(batch)
        advance(len(batch))
    if to.count() != total:
        raise DataError(
            f"the collection holds {to.count():,} points, {total:,} were handed over",
            where=to.where,
            hint="Another program writes there, too: give --replace or another --collection.",
        )
    return written


def _prepare(layout: Layout, to: Collection, replace: bool) -> None:
    if to.exists():
        found = to.layout()
        if found == layout:
            return
        if not replace:
            raise ConfigError(
                f"a collection of this name is there already, {_difference(found, layout)}",
                where=to.where,
                hint="Give another --collection, or --replace to remove it first.",
            )
        to.drop()
    to.create(layout)


def _difference(found: Layout | None, layout: Layout) -> str:
    if found is None:
        return "and was not written by seedbed"
    for name in sorted(found.spaces.keys() | layout.spaces.keys()):
        has, wanted = found.spaces.get(name), layout.spaces.get(name)
        if has is None or wanted is None:
            return f"{'without' if has is None else 'with'} vectors '{name}'"
        for what in ("dim", "metric", "many"):
            if getattr(has, what) != getattr(wanted, what):
                return f"whose '{name}' has {what} {getattr(has, what)}, not {getattr(wanted, what)}"
    return "made from another source or with other settings"


def batches(points: Iterable[Point]) -> Iterator[list[Point]]:
    """`points` in lists, each small enough to be sent at once."""
    batch: list[Point] = []
    numbers = characters = 0
    for point in points:
        size = sum(one.size for one in point.vectors.values()) + sum(
            2 * len(one.values) for one in point.sparse.values()
        )
        length = sum(len(value) for value in point.payload.values() if isinstance(value, str))
        full = len(batch) == _MOST_POINTS or numbers + size > _MOST_NUMBERS or characters + length > _MOST_CHARACTERS
        if batch and full:
            yield batch
            batch, numbers, characters = [], 0, 0
        batch.append(point)
        numbers, characters = numbers + size, characters + length
    if batch:
        yield batch


def checked_point(layout: Layout, id: object, vectors: object, payload: object, where: str) -> Point:
    """A point as an engine gave it back.

    Args:
        vectors: names to lists of numbers, or to objects with `indices` and `values`.

    Raises:
        DataError: it is no point of this layout.
    """
    try:
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < 1 << 63:
            raise ValueError("its id is no whole number below 2^63")
        point = Point(id, payload=dict(payload or {}))  # type: ignore[call-overload]
        for name, values in dict(vectors or {}).items():  # type: ignore[call-overload]
            if name in layout.spaces:
                point.vectors[name] = _checked_vector(layout.spaces[name], values)
            elif name in layout.sparse:
                point.sparse[name] = _checked_sparse(values.indices, values.values)
            else:
                raise ValueError(f"it has vectors '{name}', which its collection should not have")
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"point {id!r} cannot be used: {error}", where=where) from None
    return point


def _checked_vector(space: Space, values: Any) -> Floats:
    vector = np.array(values, dtype=np.float32)
    if vector.ndim != (2 if space.many else 1) or vector.shape[-1] != space.dim or not np.isfinite(vector).all():
        raise ValueError(f"a vector of shape {vector.shape} is not finite or not of {space.dim} dimensions")
    return vector


def _checked_sparse(indices: Any, values: Any) -> Sparse:
    listed = np.array(indices, dtype=np.int64)
    numbers = np.array(values, dtype=np.float32)
    if listed.shape != numbers.shape or listed.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("a sparse vector is not finite, or has not as many values as indices")
    order = np.argsort(listed, kind="stable")
    listed, numbers = listed[order], numbers[order]
    if len(listed) and (listed[0] < 0 or listed[-1] > 0xFFFFFFFF or (np.diff(listed) == 0).any()):
        raise ValueError("a sparse vector has an index twice or out of range")
    return Sparse(listed.astype(np.uint32), numbers)


@dataclass(frozen=True)
class Agreement:
    """How the answers of an engine compare with the exact ones."""

    queries: int
    recall: float  # the share of the exact answers that were found; another answer with an equal score counts
    difference: float  # the largest one between the scores of an answer that both give


def agreement(found: Sequence[Sequence[tuple[int, float]]], exact: Found, metric: Metric = "dot") -> Agreement:
    """Compare answers (id, score) per query with exact ones: scores (q, k) and ids (q, k) as our indexes give them."""
    wanted = hits = 0
    difference = 0.0
    scores = np.sqrt(exact[0]) if metric == "l2" else exact[0]  # Qdrant's distances are not squared
    closer = -1 if metric == "l2" else 1
    for answers, row, ids in zip(found, scores, exact[1], strict=True):
        true = dict(zip(ids[ids >= 0].tolist(), row[ids >= 0].tolist(), strict=True))
        if not true:
            continue
        last = row[ids >= 0][-1] * closer
        enough = last - _TOLERANCE * max(1.0, abs(last))
        wanted += len(true)
        hits += min(len(true), sum(id in true or score * closer >= enough for id, score in answers))
        difference = max([difference, *(abs(true[id] - score) for id, score in answers if id in true)])
    return Agreement(len(found), hits / max(1, wanted), difference)

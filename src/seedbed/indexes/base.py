"""What every index agrees on: the protocol, the metrics, the ids, and the checks of what comes in.

Conventions. Vectors are float32 (n, dim). Under "cosine" they are normalised on the way in (those whose length is 1 as
nearly as float32 tells stay as they are: what an index gives back can be added again to the bit) and a search returns
cosines; under "dot" inner products; larger is closer for both. Under "l2" a search returns squared Euclidean
distances, as hnswlib and faiss do; smaller is closer. Ids are the user's own int64, not negative. Where fewer than
k are found, the rest of a row is id -1 at the distance of the farthest (-inf, or inf under "l2").

Memory. `memory_bytes()` is what an index holds now. The static `predict_memory_bytes(count, ...)` of its class says
what it will be when `count` items have been added at once, before anything is built; besides the count it takes those
arguments of the constructor, under their names, that change it. For a class with files, `kind` is its name in them and
`from_stored` reads them; loading.INDEXES lists the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError, DataError

Metric = Literal["cosine", "dot", "l2"]
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Found = tuple[Floats, Ids]  # (q, k) distances and ids

_LARGEST_NORM = 1e18  # its square and a sum of two stay finite in float32
_LENGTH_ONE = float(np.finfo(np.float32).eps)  # rounding to float32 moves a length of 1 by half of it at most


@runtime_checkable
class Index(Protocol):
    """A set of items (vectors; texts for BM25) with ids that can be searched, changed and saved."""

    def add(self, items: Any, ids: npt.ArrayLike | None = None) -> None: ...

    def remove(self, ids: npt.ArrayLike) -> None: ...

    def search(self, queries: Any, k: int = 10, *, filter: npt.ArrayLike | None = None) -> Found: ...

    def save(self, path: str | Path) -> None: ...

    def memory_bytes(self) -> int: ...

    @staticmethod
    def predict_memory_bytes(count: int, *sizes: Any, **options: Any) -> int: ...

    def __len__(self) -> int: ...


@runtime_checkable
class VectorIndex(Index, Protocol):
    """An index that gives its vectors back, and so can be handed over to another engine."""

    dim: int
    metric: Metric

    @property
    def ids(self) -> Ids: ...

    def vectors(self, ids: npt.ArrayLike) -> Floats: ...


def check_metric(metric: str) -> Metric:
    if metric not in get_args(Metric):
        raise ConfigError(f"metric '{metric}' is unknown (known: {', '.join(get_args(Metric))})")
    return metric  # type: ignore[return-value]


def check_size(name: str, value: int, low: int, high: int) -> int:
    """`value` as an int if it lies in [low, high].

    Raises:
        ConfigError: it does not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number between {low:,} and {high:,}, not {value!r}")
    return int(value)


def check_vectors(vectors: npt.ArrayLike, dim: int, metric: Metric, what: str = "vectors") -> Floats:
    """Contiguous float32 (n, dim), normalised under "cosine". A single vector (dim,) counts as one row.

    Raises:
        DataError: wrong type or dimension, NaN or infinity, numbers too large to compare, zero vectors under cosine.
    """
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise DataError(f"{what} must be real numbers, not {array.dtype}")
    if array.ndim == 1 and array.size == 0:
        array = array.reshape(0, dim)
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != dim:
        raise DataError(f"{what} have shape {array.shape}, this index needs (n, {dim})")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    _refuse(what, ~np.isfinite(norms), "holds NaN or infinity")
    _refuse(what, norms > _LARGEST_NORM, f"is longer than {_LARGEST_NORM:g}, too long to compare in float32")
    if metric == "cosine":
        _refuse(what, norms == 0, "is zero, and has no direction to compare under cosine")
        norms[np.abs(norms - 1) <= _LENGTH_ONE] = 1
        array = (array / norms[:, None]).astype(np.float32)
    return array


def _refuse(what: str, bad: npt.NDArray[np.bool_], why: str) -> None:
    if bad.any():
        raise DataError(f"row {int(np.argmax(bad))} of the {what} {why}")


def check_ids(ids: npt.ArrayLike, count: int | None = None) -> Ids:
    """Contiguous int64 (n,).

    Raises:
        DataError: not whole numbers, negative, too many or too few, or one of them twice.
    """
    array = np.atleast_1d(np.asarray(ids))
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"ids must be a list of whole numbers, not {array.dtype} of shape {array.shape}")
    if count is not None and len(array) != count:
        raise DataError(f"{len(array)} ids for {count} items")
    if array.size and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max):
        raise DataError("ids must be between 0 and 2^63 - 1")
    array = np.ascontiguousarray(array, dtype=np.int64)
    values, counts = np.unique(array, return_counts=True)
    if len(values) != len(array):
        raise DataError(f"id {int(values[np.argmax(counts > 1)])} is given twice")
    return array


def places_of(ids: Ids, labels: Ids) -> Ids:
    """(n,) where each of `ids` stands in `labels`.

    Raises:
        DataError: one of them is not there.
    """
    order = np.argsort(labels, kind="stable")
    found = np.searchsorted(labels, ids, sorter=order)
    places = order[np.minimum(found, len(order) - 1)] if len(order) else np.zeros(0, dtype=np.int64)
    missing = labels[places] != ids if len(order) else np.ones(len(ids), dtype=bool)
    if missing.any():
        raise DataError(f"id {int(ids[np.argmax(missing)])} is not in the index")
    return places.astype(np.int64)


def check_filter(filter: npt.ArrayLike | None) -> Ids | None:
    """The ids that may be returned, or None for all. Unknown ids are no error: they admit nothing."""
    if filter is None:
        return None
    array = np.atleast_1d(np.asarray(filter))
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        raise DataError("a filter is a list of the ids that may be returned")
    return np.unique(array.astype(np.int64))


def next_ids(highest: int, count: int) -> Ids:
    """Ids for items that came without: on from the highest ever given."""
    if highest > np.iinfo(np.int64).max - count:
        raise DataError("no ids are left above the highest one given", hint="Give ids of your own.")
    return np.arange(highest + 1, highest + 1 + count, dtype=np.int64)


def no_results(metric: Metric, queries: int, k: int) -> Found:
    far = np.inf if metric == "l2" else -np.inf
    return np.full((queries, k), far, dtype=np.float32), np.full((queries, k), -1, dtype=np.int64)


def as_data_error(change, *arguments) -> None:  # type: ignore[no-untyped-def]
    try:
        change(*arguments)
    except ValueError as error:
        raise DataError(str(error)) from None

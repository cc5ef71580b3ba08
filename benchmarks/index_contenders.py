"""What takes part in the benchmark of indexes: a contender builds, saves, loads and searches; ours stand here.

A new index of ours is one more entry of OURS; a new library is one more subclass in index_peers.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seedbed.indexes import FlatIndex, GraphIndex, HNSWIndex, IVFIndex, LSHIndex, PQIndex, load_index

Floats = npt.NDArray[np.float32]
Options = Mapping[str, Any]
PROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # lists that a search looks into
WIDTHS = (10, 12, 16, 20, 26, 34, 44, 58, 76, 100, 132, 174, 230, 300, 400, 530, 700, 1000)  # of a graph's search


class Contender(ABC):
    """An index of some library.

    Attributes:
        name: as the tables call it.
        package: the distribution whose version is noted.
        graph: name of what is built, where several contenders search it in their own way; else their name.
        variants: build options worth trying; the contender's curve is the best of theirs at each recall.
        knobs: values of the one option that trades recall for time, rising; (None,) where there is none.
        patience: values in a row that find no more before wider ones are left out.
    """

    name: str
    package: str
    graph: str | None = None
    variants: Sequence[Options] = ({},)
    knobs: Sequence[Any] = WIDTHS
    patience: int = 2

    def missing(self) -> str | None:
        """Why it cannot take part here, or None."""
        try:
            version(self.package)
        except PackageNotFoundError:
            return f"{self.package} is not installed"
        return None

    @abstractmethod
    def build(self, vectors: Floats, threads: int, **options: Any) -> Any: ...

    @abstractmethod
    def save(self, index: Any, path: Path) -> None:
        """To a file, or to a folder of that name."""

    @abstractmethod
    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any: ...

    @abstractmethod
    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> npt.NDArray[np.integer]:
        """Ids (q, k)."""


class Ours(Contender):
    """An index of this package.

    Args:
        new: (dim, threads, options) to an empty index; it is trained on the vectors if it has `train`.
        knob: name of the option of `search` that trades recall for time, or several with commas, turned together.
        options: further options of `search`.
    """

    package = "seedbed"

    def __init__(
        self,
        name: str,
        new: Callable[..., Any],
        variants: Sequence[Options] = ({},),
        knob: str | None = None,
        knobs: Sequence[Any] = (None,),
        options: Options | None = None,
        patience: int = 2,
    ) -> None:
        self.name, self._new, self._knob, self._options = name, new, knob, dict(options or {})
        self.variants, self.knobs, self.patience = variants, knobs, patience

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        index = self._new(vectors.shape[1], threads, **options)
        if hasattr(index, "train"):
            index.train(vectors)
        index.add(vectors)
        return index

    def save(self, index: Any, path: Path) -> None:
        index.save(path)

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        return load_index(path, mmap=False)

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> npt.NDArray[np.integer]:
        names = self._knob.split(",") if self._knob else []
        chosen = dict(zip(names, knob if isinstance(knob, tuple) else (knob,), strict=False))
        found: npt.NDArray[np.integer] = index.search(queries, k, threads=threads, **chosen, **self._options)[1]
        return found


OURS: tuple[Contender, ...] = (
    Ours("seedbed flat", lambda dim, threads: FlatIndex(dim, "dot")),
    Ours(
        "seedbed HNSW",
        lambda dim, threads, m: HNSWIndex(dim, "dot", m=m, ef_construction=200, threads=threads),
        variants=({"m": 16}, {"m": 24}),
        knob="ef",
        knobs=WIDTHS,
    ),
    Ours(
        "seedbed graph RaBitQ",
        lambda dim, threads: GraphIndex(dim, "cosine", codes="rabitq", threads=threads),
        knob="ef",
        knobs=WIDTHS,
    ),
    Ours(
        "seedbed graph SQ8",
        lambda dim, threads: GraphIndex(dim, "cosine", codes="sq8", threads=threads),
        knob="ef",
        knobs=WIDTHS,
    ),
    *(
        Ours(
            f"seedbed IVF {codes}",
            lambda dim, threads, lists, codes=codes: IVFIndex(
                dim, lists, codes, rerank=codes != "flat", threads=threads
            ),
            variants=({"lists": 316}, {"lists": 1024}),
            knob="probes,candidates",
            knobs=[(probes, candidates) for probes in PROBES for candidates in again],
            patience=2 * len(again),
        )
        for codes, again in (("flat", (0,)), ("sq8", (20,)), ("pq", (40, 100, 200)), ("rabitq", (40, 100, 200)))
    ),
    Ours(
        "seedbed PQ",
        lambda dim, threads: PQIndex(dim, dim // 4, 4, rotate=False, rerank=True, threads=threads),
        knob="candidates",
        knobs=(20, 40, 80, 160, 320),
    ),
    Ours(
        "seedbed LSH",
        lambda dim, threads: LSHIndex(dim, 16, 14, threads=threads),
        knob="probes",
        knobs=(4, 16, 64, 256, 1024),
    ),
)

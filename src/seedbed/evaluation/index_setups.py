"""Indexes of vectors as they are compared and chosen from: how each is built, and which dial trades recall for time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..indexes import FlatIndex, GraphIndex, HNSWIndex, IVFIndex, LSHIndex, PQIndex
from ..indexes.base import Floats, Ids

_WIDTHS = (10, 16, 24, 40, 64, 100, 160, 256, 400)
_PROBES = (4, 8, 16, 32, 64, 128, 256)
_CANDIDATES = (10, 20, 40, 80, 160, 320, 640)
_BUCKETS = (4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Setup:
    """A kind of index with its arguments, and its dial.

    Attributes:
        options: arguments of the constructor besides dim, metric, seed and threads.
        dial: option of `search` that trades recall for time, with its values, rising; None where there is none.
        structure: what may lose neighbours besides codes.
        exact: options of `search` that compare with whole vectors where else codes are; None where the index has no
            codes, or none but them.
        alone: options of `search` under which codes have the last word; None where no reranking can be left out.
        growth: how the time of a search at the same recall grows with the number of vectors.
    """

    title: str
    kind: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    dial: str | None = None
    values: tuple[int | None, ...] = (None,)
    structure: Literal["none", "graph", "partition"] = "none"
    exact: Mapping[str, Any] | None = None
    alone: Mapping[str, Any] | None = None
    growth: Literal["linear", "root", "logarithm"] = "logarithm"

    @property
    def coded(self) -> bool:
        """Whether codes can lose neighbours."""
        return self.exact is not None or self.kind is PQIndex

    def build(self, vectors: Floats, metric: str, *, seed: int = 0, threads: int | None = None) -> Any:
        """An index of `vectors` (n, dim), trained on them where its kind needs that."""
        how = {} if self.kind is FlatIndex else {"seed": seed, "threads": threads}
        index = self.kind(vectors.shape[1], metric=metric, **self.options, **how)
        if hasattr(index, "train"):
            index.train(vectors)
        index.add(vectors)
        return index

    def search(self, index: Any, queries: Floats, k: int, value: int | None, **more: Any) -> Ids:
        """Ids (q, k), on one thread unless `more` says otherwise."""
        turned = {} if self.dial is None else {self.dial: value}
        found: Ids = index.search(queries, k, **turned, **more)[1]
        return found

    def predict_memory_bytes(self, count: int, dim: int, metric: str) -> int:
        how = {"metric": metric} if self.kind in (FlatIndex, IVFIndex, PQIndex) else {}
        return int(self.kind.predict_memory_bytes(count, dim, **self.options, **how))

    def slowdown(self, measured_on: int, count: int) -> float:
        """How many times longer a search of `count` vectors is expected to take than one of `measured_on`."""
        ratio = count / measured_on
        if self.growth == "logarithm":
            return math.log(max(count, 2)) / math.log(max(measured_on, 2))
        return math.sqrt(ratio) if self.growth == "root" else ratio

    def described(self, value: int | None = None) -> str:
        """ "GraphIndex(degree=32, codes='rabitq'), ef=64"."""
        arguments = ", ".join(f"{name}={one!r}" for name, one in self.options.items())
        return f"{self.kind.__name__}({arguments})" + (f", {self.dial}={value}" if self.dial and value else "")


FLAT = Setup("exact scan", FlatIndex, growth="linear")


def compared_setups(count: int, dim: int) -> list[Setup]:
    """One of each kind and code, vectors kept, so that what is lost can be told apart."""
    return [
        setup
        for setup in (*_graphs(), *_partitions(count, dim, rerank=True), _product(dim, rerank=True), _hashed(count))
        if count >= _least(setup)
    ]


def candidate_setups(count: int, dim: int) -> list[Setup]:
    """What a choice is made from: also indexes that keep codes alone, and graphs of more links."""
    richer = Setup(
        "HNSW, 24 links", HNSWIndex, {"m": 24}, "ef", _WIDTHS, "graph",
    )  # fmt: skip
    setups = (
        FLAT, *_graphs(), richer, *_partitions(count, dim, rerank=True), *_partitions(count, dim, rerank=False),
        _product(dim, rerank=False),
    )  # fmt: skip
    return [setup for setup in setups if count >= _least(setup)]


def _graphs() -> tuple[Setup, ...]:
    walked = {"exact_walk": True}
    return (
        Setup("graph, 1-bit codes", GraphIndex, {"codes": "rabitq"}, "ef", _WIDTHS, "graph", walked),
        Setup("graph, 8-bit codes", GraphIndex, {"codes": "sq8"}, "ef", _WIDTHS, "graph", walked),
        Setup("HNSW", HNSWIndex, {"m": 16}, "ef", _WIDTHS, "graph"),
    )


def _partitions(count: int, dim: int, *, rerank: bool) -> tuple[Setup, ...]:
    lists = max(1, min(round(4 * math.sqrt(count)), count // 39))
    probes = tuple(value for value in _PROBES if value < lists) or (1,)

    def one(title: str, **options: Any) -> Setup:
        keeps = rerank or options["codes"] == "flat"
        coded = options["codes"] != "flat"
        return Setup(
            title if keeps else f"{title} alone",
            IVFIndex,
            {"lists": lists, **options, **({"rerank": True} if coded and rerank else {})},
            "probes",
            probes,
            "partition",
            {"exact": True} if coded and rerank else None,
            {"candidates": 0} if coded and rerank else None,
            "root",
        )

    coded = (one("IVF, 8-bit codes", codes="sq8"), one("IVF, 4-bit PQ", codes="pq"))
    if not rerank:
        return coded
    return (one("IVF, no codes", codes="flat"), *coded, one("IVF, 1-bit codes", codes="rabitq"))


def _product(dim: int, *, rerank: bool) -> Setup:
    subspaces = max(1, dim // 4)
    options = {"subspaces": subspaces, "bits": 8, "rotate": False}
    if not rerank:
        return Setup("PQ alone", PQIndex, options, growth="linear")
    return Setup(
        "PQ", PQIndex, {**options, "rerank": True}, "candidates", _CANDIDATES, alone={"candidates": 0}, growth="linear"
    )


def _hashed(count: int) -> Setup:
    bits = max(4, min(24, round(math.log2(max(count, 2))) - 1))
    return Setup("LSH", LSHIndex, {"tables": 16, "bits": bits}, "probes", _BUCKETS, "partition", growth="root")


def _least(setup: Setup) -> int:
    """Vectors that a setup needs to be worth a look: training must have more than its centroids and codebooks."""
    if setup.kind is PQIndex:
        return 4 << 8
    return 256 if setup.kind in (IVFIndex, LSHIndex) else 1

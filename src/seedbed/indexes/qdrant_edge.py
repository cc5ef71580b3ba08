"""A folder of Qdrant's engine inside this process (the package qdrant-edge-py): what a server runs, without a server.

One folder is one collection. Beside the engine's files lies `seedbed.json`, which says what it holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.config import build
from ..core.errors import ConfigError, DataError, ResourceError, SeedbedError, disk_errors
from ..core.files import write_atomically
from ..core.json_files import json_bytes, read_json
from .base import Floats
from .handover import Layout, Point, Space, Sparse, checked_point

_ABOUT = "seedbed.json"
_PAGE = 256
_DEFAULT_GRAPH = {"m": 16, "ef_construction": 100}  # Qdrant's own
_FULL_SCAN_KB = 10_000  # Qdrant's own


class EdgeCollection:
    """
    >>> collection = EdgeCollection("qdrant/docs")
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.where = Path(path), str(path)
        self._shard: Any = None

    def exists(self) -> bool:
        return self.path.is_file() or (self.path.exists() and any(self.path.iterdir()))

    def layout(self) -> Layout | None:
        if not (self.path / _ABOUT).exists():
            return None
        return build(Layout, read_json(self.path / _ABOUT), where=self.path / _ABOUT)

    def create(self, layout: Layout) -> None:
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / _ABOUT, json_bytes(layout.model_dump(mode="json")))
        with _clear_errors(self.where):
            self._open()

    def drop(self) -> None:
        """
        Raises:
            ConfigError: the folder is not one of ours, and is left alone.
        """
        self._own_layout()
        self.close()
        shutil.rmtree(self.path)

    def present(self, ids: Sequence[int]) -> set[int]:
        with _clear_errors(self.where):
            return {record.id for record in self._open().retrieve(list(ids), with_payload=False, with_vector=False)}

    def upsert(self, points: Sequence[Point]) -> None:
        edge = _engine()
        listed = [
            edge.Point(
                point.id,
                {
                    **{name: vector.tolist() for name, vector in point.vectors.items()},
                    **{name: _sparse(sparse) for name, sparse in point.sparse.items()},
                },
                point.payload,
            )
            for point in points
        ]
        with _clear_errors(self.where):
            self._open().update(edge.UpdateOperation.upsert_points(listed))

    def optimize(self) -> None:
        """Build the graphs of what is large enough for one; until then searches are exact."""
        with _clear_errors(self.where):
            self._open().optimize()

    def count(self) -> int:
        with _clear_errors(self.where):
            return int(self._open().count(_engine().CountRequest(exact=True)))

    def points(self) -> Iterator[Point]:
        layout = self._own_layout()
        following = None
        while True:
            request = _engine().ScrollRequest(offset=following, limit=_PAGE, with_payload=True, with_vector=True)
            with _clear_errors(self.where):
                records, following = self._open().scroll(request)
            for record in records:
                yield checked_point(layout, record.id, record.vector, record.payload, self.where)
            if following is None:
                return

    def search(self, name: str, query: Floats | Sparse, k: int, *, exact: bool = False) -> list[tuple[int, float]]:
        edge = _engine()
        asked = edge.Query.Nearest(_sparse(query) if isinstance(query, Sparse) else query.tolist(), using=name)
        request = edge.QueryRequest(limit=k, query=asked, params=edge.SearchParams(exact=exact))
        with _clear_errors(self.where):
            return [(int(point.id), point.score) for point in self._open().query(request)]

    def close(self) -> None:
        if self._shard is not None:
            with _clear_errors(self.where):
                self._shard.flush()
                self._shard.close()
            self._shard = None

    def _open(self) -> Any:
        if self._shard is None:
            layout = self._own_layout()
            edge = _engine()
            if (self.path / "segments").exists():
                self._shard = edge.EdgeShard.load(self.path)
            else:
                self._shard = edge.EdgeShard.create(self.path, _config(layout))
        return self._shard

    def _own_layout(self) -> Layout:
        layout = self.layout()
        if layout is None:
            raise ConfigError("this folder is no collection of ours", where=self.where)
        return layout


def _config(layout: Layout) -> Any:
    edge = _engine()
    return edge.EdgeConfig(
        vectors={name: _parameters(space) for name, space in layout.spaces.items()},
        sparse_vectors={name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in layout.sparse},
    )


def _engine() -> Any:
    try:
        import qdrant_edge
    except ImportError:
        raise ConfigError(
            "the package qdrant-edge-py is not installed", hint="Install it: pip install qdrant-edge-py."
        ) from None
    return qdrant_edge


def _parameters(space: Space) -> Any:
    edge = _engine()
    distances = {"cosine": edge.Distance.Cosine, "dot": edge.Distance.Dot, "l2": edge.Distance.Euclid}
    graph = {
        "m": _DEFAULT_GRAPH["m"] if space.m is None else space.m,
        "ef_construct": space.ef_construction or _DEFAULT_GRAPH["ef_construction"],
    }
    return edge.EdgeVectorParams(
        space.dim,
        distances[space.metric],
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if space.many else None,
        hnsw_config=edge.HnswIndexConfig(full_scan_threshold=_FULL_SCAN_KB, **graph),
    )


def _sparse(sparse: Sparse) -> Any:
    return _engine().SparseVector(sparse.indices.tolist(), sparse.values.tolist())


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (SeedbedError, KeyboardInterrupt, OSError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "WouldBlock" in text:
            raise ResourceError("another process has this folder open", where=where) from None
        raise DataError(f"Qdrant answers: {text}", where=where) from None

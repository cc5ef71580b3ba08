"""A collection of a Qdrant server, or of the client's local mode (a folder or memory).

Scores. Under "cosine" and "dot" they are ours; under "l2" they are distances, where ours are squared. Sparse vectors
are weighed by Qdrant's idf, ln(1 + (N - df + 1/2) / (df + 1/2)) over the points that have one.

Vectors come back as they were written, to the bit, but under "cosine": a server keeps those whose squared length is
within 1e-6 of 1, as ours are, and local mode divides by the length again, which may move the last bit.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ..core.config import build
from ..core.errors import ConfigError, DataError, ResourceError, SeedbedError
from .base import Floats
from .handover import Layout, Point, Space, Sparse, checked_point

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

KEY_VARIABLE = "QDRANT_API_KEY"
LOCAL_URL = "http://localhost:6333"

_MARK = "seedbed"  # our part of a collection's metadata
_PAGE = 256
_SECONDS = 60
_INSTALL = "Install it: pip install 'seedbed[qdrant]'."


class QdrantCollection:
    """A collection by its name.

    >>> collection = QdrantCollection.on_server("http://localhost:6333", "docs")  # the key from QDRANT_API_KEY
    >>> collection = QdrantCollection.in_folder("qdrant/", "docs")

    Args:
        client: an open one.
        name: the collection's.
        where: what messages call it.
    """

    def __init__(self, client: QdrantClient, name: str, where: str = "qdrant") -> None:
        self.client, self.name, self.where = client, name, f"{where}, collection '{name}'"
        self._layout: Layout | None = None

    @classmethod
    def on_server(cls, url: str, name: str) -> Self:
        """
        Raises:
            ConfigError: the address cannot be used, or qdrant-client is not installed.
        """
        try:
            address = urlsplit(url)
            usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable or address.username or address.password:
            raise ConfigError(
                "the address of a Qdrant server is http(s)://HOST:PORT, without a password",
                hint=f"A key goes into the environment variable {KEY_VARIABLE}.",
            )
        port = address.port or (443 if address.scheme == "https" else 6333)
        key = os.environ.get(KEY_VARIABLE) or None
        client = _client(url=url, port=port, api_key=key, timeout=_SECONDS, check_compatibility=False)
        return cls(client, name, f"{address.scheme}://{address.hostname}:{port}")

    @classmethod
    def in_folder(cls, path: str | Path, name: str) -> Self:
        """In the client's local mode, made for trials: exact and slow.

        Raises:
            ResourceError: another process has the folder open.
        """
        with _clear_errors(str(path)):
            return cls(_client(path=str(path)), name, str(path))

    def exists(self) -> bool:
        with _clear_errors(self.where):
            return self.client.collection_exists(self.name)

    def layout(self) -> Layout | None:
        with _clear_errors(self.where):
            metadata = self.client.get_collection(self.name).config.metadata or {}
        values = metadata.get(_MARK)
        self._layout = build(Layout, values, where=self.where) if isinstance(values, dict) else None
        return self._layout

    def create(self, layout: Layout) -> None:
        """
        Raises:
            ConfigError: the server is too old to keep what a collection is (before 1.16).
        """
        from qdrant_client import models

        with _clear_errors(self.where):
            self.client.create_collection(
                self.name,
                vectors_config={name: _parameters(space) for name, space in layout.spaces.items()},
                sparse_vectors_config={
                    name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in layout.sparse
                },
                metadata={_MARK: layout.model_dump(mode="json")},
            )
        if self.layout() != layout:
            self.drop()
            raise ConfigError(
                "this Qdrant keeps no metadata of collections", where=self.where, hint="Use 1.16 or later."
            )

    def drop(self) -> None:
        with _clear_errors(self.where):
            self.client.delete_collection(self.name)

    def present(self, ids: Sequence[int]) -> set[int]:
        with _clear_errors(self.where):
            found = self.client.retrieve(self.name, list(ids), with_payload=False, with_vectors=False)
        return {record.id for record in found if isinstance(record.id, int)}

    def upsert(self, points: Sequence[Point]) -> None:
        from qdrant_client import models

        listed = [
            models.PointStruct(
                id=point.id,
                vector={
                    **{name: vector.tolist() for name, vector in point.vectors.items()},
                    **{name: _sparse(sparse) for name, sparse in point.sparse.items()},
                },
                payload=point.payload,
            )
            for point in points
        ]
        with _clear_errors(self.where):
            self.client.upsert(self.name, listed, wait=True)

    def count(self) -> int:
        with _clear_errors(self.where):
            return self.client.count(self.name, exact=True).count

    def points(self) -> Iterator[Point]:
        layout = self._layout or self.layout()
        if layout is None:
            raise ConfigError("this collection was not written by seedbed", where=self.where)
        following: Any = None
        while True:
            with _clear_errors(self.where):
                records, following = self.client.scroll(
                    self.name, limit=_PAGE, offset=following, with_payload=True, with_vectors=True
                )
            for record in records:
                yield checked_point(layout, record.id, record.vector, record.payload, self.where)
            if following is None:
                return

    def search(self, name: str, query: Floats | Sparse, k: int, *, exact: bool = False) -> list[tuple[int, float]]:
        from qdrant_client import models

        asked = _sparse(query) if isinstance(query, Sparse) else query.tolist()
        with _clear_errors(self.where):
            found = self.client.query_points(
                self.name, query=asked, using=name, limit=k, with_payload=False,
                search_params=models.SearchParams(exact=True) if exact else None,
            )  # fmt: skip
        return [(int(point.id), point.score) for point in found.points]

    def close(self) -> None:
        self.client.close()


def _client(**options: Any) -> QdrantClient:
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise ConfigError("the package qdrant-client is not installed", hint=_INSTALL) from None
    return QdrantClient(**options)


def _parameters(space: Space) -> Any:
    from qdrant_client import models

    distances = {"cosine": models.Distance.COSINE, "dot": models.Distance.DOT, "l2": models.Distance.EUCLID}
    graph = None
    if space.m is not None or space.ef_construction is not None:
        graph = models.HnswConfigDiff(m=space.m, ef_construct=space.ef_construction)
    many = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM) if space.many else None
    return models.VectorParams(
        size=space.dim, distance=distances[space.metric], hnsw_config=graph, multivector_config=many
    )


def _sparse(sparse: Sparse) -> Any:
    from qdrant_client import models

    return models.SparseVector(indices=sparse.indices.tolist(), values=sparse.values.tolist())


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    """Errors of the client as one sentence. None of them holds the key: the client sends it in a header."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Local mode")  # is exact, and slow: in_folder says so
            yield
    except (SeedbedError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise _explained(error, where) from None


def _explained(error: Exception, where: str) -> SeedbedError:
    status, text = getattr(error, "status_code", None), " ".join(str(error).split())
    if status in (401, 403):
        return ConfigError("Qdrant refuses the key, or wants one", where=where, hint=f"Set {KEY_VARIABLE}.")
    if status is not None:
        return DataError(f"Qdrant answers {text.removeprefix('Unexpected Response: ')}", where=where)
    if type(error).__name__ == "ResponseHandlingException":
        return ResourceError(
            f"no Qdrant answers ({getattr(error, 'source', error)})",
            where=where,
            hint="Start one there, name another with --url, or write into a folder with --path.",
        )
    if "already accessed" in text:
        return ResourceError("another process has this folder open", where=where)
    return DataError(f"Qdrant answers: {text}", where=where)

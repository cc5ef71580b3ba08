"""Vectors to judge indexes with: of a run's search engine, of an index file or of a .npy file, and queries to ask."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, FormatError
from ..core.randomness import numpy_generator
from ..indexes import load_vectors
from ..indexes.base import Floats, Metric, check_vectors

_FILE = "file of numbers (.npy)"


@dataclass(frozen=True)
class VectorSet:
    """Vectors (n, dim) with no two alike, and queries (q, dim).

    Attributes:
        copies: vectors left out because another one is the same.
        held_out: whether the queries were taken out of the vectors, because no others were given.
    """

    name: str
    metric: Metric
    vectors: Floats
    queries: Floats
    copies: int
    held_out: bool

    def sampled(self, most: int, queries: int, seed: int = 0) -> VectorSet:
        """At most `most` vectors and so many queries, drawn at random, in their order."""
        return VectorSet(
            self.name, self.metric, _drawn(self.vectors, most, seed, "vectors"),
            _drawn(self.queries, queries, seed, "queries"), self.copies, self.held_out,
        )  # fmt: skip


def read_vector_set(
    source: Path, *, queries: Path | None = None, metric: str | None = None, held_out: int = 1000, seed: int = 0
) -> VectorSet:
    """Read vectors from a run, an index file or a .npy file (n, dim).

    Without `queries` (a .npy file), a run's are the held-out questions of its test split, and others' are so many
    `held_out` vectors (at most a tenth), which are no longer among the vectors then.

    Raises:
        DataError, FormatError, ArtifactError: what is there cannot be used.
    """
    asked: Floats | None = None
    if source.is_dir():
        vectors, stored, asked = _of_run(source)
    elif source.suffix == ".npy":
        vectors, stored = read_array(source), "cosine"
    else:
        vectors, stored = load_vectors(source)
    metric = metric or stored
    vectors = check_vectors(vectors, vectors.shape[1], cast(Metric, metric))
    if queries is not None:
        asked = read_array(queries)
    return vector_set(vectors, asked, metric, name=source.name, held_out=held_out, seed=seed)


def vector_set(
    vectors: npt.ArrayLike, queries: npt.ArrayLike | None, metric: str, *, name: str = "vectors", held_out: int = 1000,
    seed: int = 0,
) -> VectorSet:  # fmt: skip
    """Check `vectors` (n, dim), leave copies out, and hold some out as queries if none are given.

    Raises:
        DataError: the vectors cannot be used, or are too few.
    """
    array = np.atleast_2d(np.asarray(vectors))
    kind = cast(Metric, metric)
    rows = check_vectors(array, array.shape[-1], kind)
    keep = _first_of_each(rows)
    copies, rows = len(rows) - len(keep), rows if len(keep) == len(rows) else rows[keep]
    if len(rows) < 20:
        raise DataError(f"{len(rows)} different vectors tell nothing about indexes", hint="Give at least 20.")
    if queries is not None:
        asked = check_vectors(queries, rows.shape[1], kind, "queries")
        if not len(asked):
            raise DataError("there are no queries")
        return VectorSet(name, kind, rows, asked, copies, False)
    chosen = np.zeros(len(rows), dtype=bool)
    count = min(held_out, max(len(rows) // 10, 1))
    chosen[numpy_generator(seed, "held out").choice(len(rows), count, replace=False)] = True
    return VectorSet(name, kind, rows[~chosen], rows[chosen], copies, True)


def read_array(path: Path) -> Floats:
    """The (n, dim) array of a .npy file.

    Raises:
        FormatError: it holds no such array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"this is no {_FILE} ({error})", where=path) from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise FormatError("this holds no table of numbers (n, dim)", where=path)
    return array


def _of_run(path: Path) -> tuple[Floats, str, Floats | None]:
    from ..core.artifacts import open_artifact
    from ..datasets.pairs import held_out_queries, read_corpus
    from ..embeddings.heldout import SPLITS
    from ..embeddings.search import DENSE
    from ..embeddings.sentence import SentenceEncoder, TruncationWarning

    index = open_artifact(path / "index", "index").path
    corpus = open_artifact(path / "corpus", "corpus").path
    vectors, metric = load_vectors(index / DENSE)
    documents = {split: read_corpus(corpus, split) for split in SPLITS}
    others = [row for split in SPLITS if split != "test" for row in documents[split]]
    texts = [pair.query for pair in held_out_queries(documents["test"], others)]
    if not texts:
        return vectors, metric, None
    encoder = SentenceEncoder.load(open_artifact(path / "encoder", "encoder").path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        return vectors, metric, encoder.encode_queries(texts, normalize=True)


def _first_of_each(rows: Floats) -> npt.NDArray[np.int64]:
    """Places of rows that no earlier one is equal to, rising."""
    whole = np.ascontiguousarray(rows + 0.0)  # one zero, not two
    seen = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).reshape(-1)
    return np.sort(np.unique(seen, return_index=True)[1])


def _drawn(rows: Floats, most: int, seed: int, name: str) -> Floats:
    if len(rows) <= most:
        return rows
    return rows[np.sort(numpy_generator(seed, "drawn", name).choice(len(rows), most, replace=False))]

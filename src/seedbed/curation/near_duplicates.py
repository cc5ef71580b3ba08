"""Near-duplicates: MinHash signatures, candidates from bands of them, verified by Jaccard, clusters with one keeper.

A document is the set of its runs of five words (lower case, punctuation aside). Documents whose signatures agree in all
rows of a band are candidates, found with probability 1 - (1 - s^rows)^bands at similarity s; those whose sets are in
truth as similar as asked for belong together, and so does what they are linked to. Of a cluster the longest document
stays, of equally long ones the first.

Signatures and shingles lie in files, mapped into memory, so that what grows with the corpus is the disk's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from .. import _native
from ..core.config import Config

WORDS = 5
_SEED = 0
_BATCH = 512
_MINIMA, _SHINGLES, _OFFSETS = "minima.u32", "shingles.u32", "offsets.i64"


@dataclass(frozen=True)
class Parameters:
    """
    Attributes:
        similarity: Jaccard from which on two documents are the same; for published sets, which do not verify, where
            half of all pairs are found, (1/bands)^(1/rows).
    """

    bands: int
    rows: int
    similarity: float

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


PARAMETERS = {
    "verified": Parameters(22, 5, 0.8),  # ours: verification makes false candidates harmless, so that bands may be wide
    "fineweb": Parameters(14, 8, 0.72),  # Penedo et al. 2024
    "text-dedup": Parameters(25, 10, 0.72),
    "duplodocus": Parameters(20, 5, 0.55),
    "refinedweb": Parameters(450, 20, 0.74),  # Penedo et al. 2023
    "dclm": Parameters(93, 15, 0.74),  # Li et al. 2024
}


class NearDuplicateConfig(Config):
    """
    Attributes:
        parameters: "preset" (what the preset of rules says), "none", or a set of near_duplicates.PARAMETERS.
        similarity: Jaccard similarity of the same; null is the set's own.
        action: "drop" all of a cluster but one, or "group": keep all, but in one split.
    """

    parameters: str = "preset"
    similarity: float | None = Field(default=None, gt=0, le=1)
    action: Literal["drop", "group"] = "drop"

    @field_validator("parameters")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ("preset", "none", *PARAMETERS):
            raise ValueError(f"unknown parameters '{name}' (there are: preset, none, {', '.join(PARAMETERS)})")
        return name

    def resolve(self, of_preset: str) -> Parameters | None:
        """The parameters to use, or None for no search."""
        name = of_preset if self.parameters == "preset" else self.parameters
        if name in ("", "none"):
            return None
        chosen = PARAMETERS[name]
        return chosen if self.similarity is None else Parameters(chosen.bands, chosen.rows, self.similarity)


class Signatures:
    """Signatures and shingles of documents, in files."""

    def __init__(self, minima: NDArray[np.uint32], shingles: NDArray[np.uint32], offsets: NDArray[np.int64]) -> None:
        self.minima, self.shingles, self.offsets = minima, shingles, offsets

    @classmethod
    def write(cls, texts: Iterable[str], parameters: Parameters, folder: Path, threads: int = 1) -> Self:
        """Sign `texts` into files in `folder` and map them."""
        folder.mkdir(parents=True, exist_ok=True)
        total, batch = 0, list[str]()
        with (
            open(folder / _MINIMA, "wb") as minima,
            open(folder / _SHINGLES, "wb") as shingles,
            open(folder / _OFFSETS, "wb") as offsets,
        ):
            np.zeros(1, np.int64).tofile(offsets)

            def flush() -> None:
                nonlocal total
                signed = _native.minhash(batch, WORDS, parameters.permutations, _SEED, threads)
                signed[0].tofile(minima)
                signed[1].tofile(shingles)
                (signed[2][1:] + total).tofile(offsets)
                total += len(signed[1])
                batch.clear()

            for text in texts:
                batch.append(text)
                if len(batch) == _BATCH:
                    flush()
            if batch:
                flush()
        columns = parameters.permutations
        return cls(
            _map(folder / _MINIMA, np.uint32).reshape(-1, columns),
            _map(folder / _SHINGLES, np.uint32),
            _map(folder / _OFFSETS, np.int64),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def similarity(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Jaccard similarity of the shingles of each pair (m, 2)."""
        return _native.shingle_similarities(self.shingles, self.offsets, np.ascontiguousarray(pairs))


def _map(path: Path, dtype: type[np.generic]) -> NDArray:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r")


@dataclass(frozen=True)
class Clusters:
    """
    Attributes:
        first: int64 (n,): of each document's cluster the member that comes first; of most documents, themselves.
        keeper: int64 (n,): the member that stays.
        similarity: float64 (n,): to the keeper; below the bound where other members link the two.
        candidates, verified, similar: pairs that bands proposed, whose sets were compared, and that were the same.
    """

    first: NDArray[np.int64]
    keeper: NDArray[np.int64]
    similarity: NDArray[np.float64]
    candidates: int
    verified: int
    similar: int

    @property
    def dropped(self) -> NDArray[np.bool_]:
        return self.keeper != np.arange(len(self.keeper))

    def sizes(self) -> NDArray[np.int64]:
        """Documents of each cluster of two or more, the largest first."""
        counts = np.bincount(self.first, minlength=len(self.first))
        return np.sort(counts[counts > 1])[::-1]


def find_clusters(
    signatures: Signatures, lengths: Sequence[int] | NDArray[np.uint32], parameters: Parameters, threads: int = 1
) -> Clusters:
    """The clusters of near-duplicates among documents of `lengths` characters."""
    first, candidates, verified, similar = _native.near_duplicates(
        signatures.minima,
        signatures.shingles,
        signatures.offsets,
        parameters.bands,
        parameters.rows,
        parameters.similarity,
        threads,
    )
    count = len(first)
    # Within clusters the longest first, then the first: a stable sort by falling length, then by cluster.
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    order = order[np.argsort(first[order], kind="stable")]
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    keeper = np.empty(count, np.int64)
    keeper[order] = np.repeat(order[starts], np.diff(starts, append=count))
    similarity = np.ones(count)
    others = np.flatnonzero(keeper != np.arange(count))
    similarity[others] = signatures.similarity(np.stack([others, keeper[others]], axis=1))
    return Clusters(first, keeper, similarity, candidates, verified, similar)

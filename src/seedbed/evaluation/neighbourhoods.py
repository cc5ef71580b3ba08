"""How neighbours lie among vectors: what makes a set of vectors easy or hard to search, whatever the index.

q queries or vectors, k neighbours. Distances are Euclidean (not squared), nearest first; of normalised vectors they are
sqrt(2 - 2 cosine), so that "cosine" and "l2" agree there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from ..indexes import FlatIndex
from ..indexes.base import Floats, Ids

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neighbourhoods:
    """What is known of a set of vectors from its exact neighbours.

    Attributes:
        count: vectors among which the neighbours of `measured` vectors were looked for.
        k: neighbours that contrast and dimension read; hubness reads `hub_k` of them.
        distances: (measured,) from a vector to its nearest other one.
        pairs: distances of random pairs.
        contrasts: (measured,) relative contrast at k.
        dimensions: (measured,) local intrinsic dimension.
        occurrences: (measured,) N_k: how often each is among the `hub_k` nearest of the others measured.
    """

    count: int
    k: int
    hub_k: int
    distances: Numbers
    pairs: Numbers
    contrasts: Numbers
    dimensions: Numbers
    occurrences: npt.NDArray[np.int64]

    def summary(self) -> dict[str, float]:
        return {
            "nearest_distance": float(np.median(self.distances)),
            "pair_distance": float(self.pairs.mean()),
            "pair_deviation": float(self.pairs.std() / self.pairs.mean()) if self.pairs.mean() else 0.0,
            "relative_contrast": _median(self.contrasts),
            "intrinsic_dimension": _median(self.dimensions),
            "hub_skewness": skewness(self.occurrences),
            "anti_hubs": float((self.occurrences == 0).mean()),
            "largest_hub": int(self.occurrences.max()),
        }


def relative_contrast(distances: npt.ArrayLike, mean_distance: npt.ArrayLike) -> Numbers:
    """(q,) mean distance to all vectors over the distance to the k-th neighbour; near 1 all are equally far.

    He, Kumar & Chang, "On the difficulty of nearest neighbor search" (2012), section 2, at k instead of 1.

    Args:
        distances: (q, k) to the nearest.
        mean_distance: (q,) or one number.
    """
    farthest = np.asarray(distances, dtype=np.float64)[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(farthest > 0, np.asarray(mean_distance, dtype=np.float64) / farthest, np.inf)


def intrinsic_dimension(distances: npt.ArrayLike) -> Numbers:
    """(q,) local intrinsic dimension by maximum likelihood: -1 / mean(ln(r_i / r_k)), i < k.

    Levina & Bickel (2004), equation 8; Amsaleg et al. (2015). Neighbours at distance 0 (copies) say nothing and are
    left out; nan where fewer than two distances are left or all are the same. Of squared distances, such as 1 - cosine,
    the estimate is half as large: published figures of embeddings are often of these.

    Args:
        distances: (q, k), rising along a row.
    """
    rows = np.asarray(distances, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(rows > 0, np.log(rows / rows[:, -1:]), 0.0)[:, :-1]
        weighed = (rows[:, :-1] > 0).sum(1)
        return np.where((weighed > 0) & (logs.sum(1) < 0), -weighed / logs.sum(1), np.nan)


def occurrences(neighbours: Ids, count: int) -> npt.NDArray[np.int64]:
    """(count,) N_k: how many lists of neighbours (n, k) each item is in. Their mean is k n / count.

    Radovanović, Nanopoulos & Ivanović, "Hubs in space" (2010), section 2.
    """
    listed = neighbours[neighbours >= 0]
    return np.bincount(listed, minlength=count)


def skewness(values: npt.ArrayLike) -> float:
    """E(x - mean)^3 / deviation^3: of N_k, how far a few hubs stand out (0: no more than others fall short)."""
    numbers = np.asarray(values, dtype=np.float64)
    centred = numbers - numbers.mean()
    deviation = np.sqrt((centred**2).mean())
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def measure_neighbourhoods(
    vectors: Floats,
    metric: str = "cosine",
    *,
    k: int = 100,
    hub_k: int = 10,
    most: int = 10_000,
    seed: int = 0,
    threads: int | None = None,
) -> Neighbourhoods:
    """Measure how neighbours lie among `vectors` (n, dim).

    Contrast and dimension are of some vectors, against all. Hubness needs the neighbours of every vector, and so is of
    a sample by itself.

    Args:
        metric: "dot" is measured by Euclidean distance, as "l2": inner products are no distances.
        most: vectors in the sample of hubness; a fifth of it is drawn for contrast and dimension.

    Raises:
        DataError: fewer than three vectors.
    """
    if len(vectors) < 3:
        raise DataError(f"{len(vectors)} vectors have no neighbourhoods to measure", hint="Give at least three.")
    random = numpy_generator(seed, "neighbourhoods")
    metric = "cosine" if metric == "cosine" else "l2"
    index = FlatIndex(vectors.shape[1], metric)
    index.add(vectors)
    asked = np.sort(random.permutation(len(vectors))[: max(most // 5, 3)])
    k = min(k, len(vectors) - 1)
    found, ids = index.search(vectors[asked], k + 1, threads=threads)
    near = _without_self(_lengths(found, metric), ids, asked)
    repeated = np.repeat(asked, 20)
    others = (repeated + random.integers(1, len(vectors), len(repeated))) % len(vectors)
    pairs = _pair_lengths(vectors, repeated, others, metric)
    per_query = pairs.reshape(len(asked), 20).mean(1)
    sample = np.sort(random.permutation(len(vectors))[:most])
    small = FlatIndex(vectors.shape[1], metric)
    small.add(vectors[sample])
    hub_k = min(hub_k, len(sample) - 1)
    lists = small.search(vectors[sample], hub_k + 1, threads=threads)[1]
    lists = _without_self(lists, lists, np.arange(len(sample)))
    return Neighbourhoods(
        count=len(vectors), k=k, hub_k=hub_k, distances=near[:, 0], pairs=pairs,
        contrasts=relative_contrast(near, per_query), dimensions=intrinsic_dimension(near),
        occurrences=occurrences(lists, len(sample)),
    )  # fmt: skip


def _without_self(values: npt.NDArray, ids: Ids, own: Ids) -> npt.NDArray:
    """(q, k) of (q, k + 1): the vector itself goes, or where copies hide it, the last neighbour."""
    keep = ids != own[:, None]
    keep[keep.all(1), -1] = False
    return values[keep].reshape(len(ids), -1)


def _lengths(found: npt.NDArray, metric: str) -> Numbers:
    squared = found.astype(np.float64) if metric == "l2" else 2 - 2 * found.astype(np.float64)
    # Cosines of copies are 1 to within rounding in float32.
    return np.sqrt(np.where(squared < 1e-6, 0.0, squared)) if metric == "cosine" else np.sqrt(np.maximum(squared, 0))


def _pair_lengths(vectors: Floats, left: Ids, right: Ids, metric: str) -> Numbers:
    out = np.empty(len(left))
    for start in range(0, len(left), 4096):
        one, other = (
            vectors[side[start : start + 4096]].astype(np.float64) for side in (left, right)
        )  # fmt: skip
        if metric == "cosine":
            one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
        out[start : start + 4096] = np.linalg.norm(one - other, axis=1)
    return out


def _median(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")

"""Learning product quantisation: codebooks, and the rotation before them.

n vectors of dimension D = subspaces * width (filled up with zeros), 2^bits entries a codebook. Product quantisation is
Jégou, Douze & Schmid (2011); the rotation is learnt by optimised product quantisation, Ge, He, Ke & Sun (2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _native
from ..core.devices import cpu_count
from ..core.randomness import derive_seed
from .base import Floats

_PER_ENTRY = 256  # vectors that train an entry
_ROTATION_STEPS = 8
_ROTATION_SAMPLE = 8192


@dataclass(frozen=True)
class ProductQuantizer:
    """Codebooks (subspaces, entries, width) and a rotation (D, dim) with orthonormal columns; empty: none."""

    codebooks: Floats
    rotation: Floats

    @classmethod
    def train(
        cls, vectors: Floats, subspaces: int, bits: int, *, rotate: bool, seed: int = 0, threads: int | None = None
    ) -> ProductQuantizer:
        """Learn from the first of `vectors` (n, dim), at least 2^bits of them."""
        rows = _widened(vectors[: _PER_ENTRY << bits], subspaces)
        rotation = np.zeros((0, 0), dtype=np.float32)
        if rotate:
            turn = _learn_rotation(rows[:_ROTATION_SAMPLE], subspaces, bits, seed, threads)
            rows = np.ascontiguousarray(rows @ turn.T)
            rotation = np.ascontiguousarray(turn[:, : vectors.shape[1]])
        return cls(_learn_codebooks(rows, subspaces, bits, 20, seed, threads), rotation)

    @property
    def subspaces(self) -> int:
        return self.codebooks.shape[0]

    def turned(self, vectors: Floats) -> Floats:
        """`vectors` (n, dim) as they are quantised, (n, D)."""
        if self.rotation.size:
            return np.ascontiguousarray(vectors @ self.rotation.T)
        return _widened(vectors, self.subspaces)

    def encode(self, vectors: Floats) -> npt.NDArray[np.uint8]:
        """(n, subspaces): of each part, the nearest entry of its codebook."""
        return _encode(self.turned(vectors), self.codebooks, 1)

    def decode(self, codes: npt.NDArray[np.uint8]) -> Floats:
        """(n, D), rotated."""
        return _decode(codes, self.codebooks)

    def distortion(self, vectors: Floats) -> float:
        """The share of the vectors' squared lengths that quantisation loses."""
        turned = self.turned(vectors)
        lost = turned - _decode(_encode(turned, self.codebooks, 1), self.codebooks)
        return float((lost.astype(np.float64) ** 2).sum() / (turned.astype(np.float64) ** 2).sum())


def sign_codebooks(dim: int) -> Floats:
    """Codebooks of one bit a component, (subspaces, 16, 4): of every four components, their signs (RaBitQ's codes)."""
    signs = np.array([[1.0 if entry >> bit & 1 else -1.0 for bit in range(4)] for entry in range(16)], dtype=np.float32)
    return np.tile(signs, ((dim + 3) // 4, 1, 1))


def random_rotation(dim: int, seed: int) -> Floats:
    """(D, dim) with orthonormal columns, D being `dim` filled up to a multiple of four; uniformly distributed."""
    wide = (dim + 3) // 4 * 4
    normal = np.random.Generator(np.random.PCG64(derive_seed(seed, "rotation"))).normal(size=(wide, wide))
    q, r = np.linalg.qr(normal)
    return np.ascontiguousarray((q * np.sign(np.diag(r)))[:, :dim], dtype=np.float32)


def _widened(vectors: Floats, subspaces: int) -> Floats:
    dim = vectors.shape[1]
    width = (dim + subspaces - 1) // subspaces
    if dim == subspaces * width:
        return vectors
    return np.pad(vectors, ((0, 0), (0, subspaces * width - dim)))


def _parts(rows: Floats, subspaces: int) -> list[Floats]:
    return [np.ascontiguousarray(part) for part in np.split(rows, subspaces, axis=1)]


def _learn_codebooks(rows: Floats, subspaces: int, bits: int, rounds: int, seed: int, threads: int | None) -> Floats:
    books = _native.kmeans_of_parts(rows, subspaces, 1 << bits, rounds, seed, threads or cpu_count())
    return books.reshape(subspaces, 1 << bits, -1)


def _encode(rows: Floats, codebooks: Floats, threads: int) -> npt.NDArray[np.uint8]:
    codes = [
        _native.nearest(part, book, threads).reshape(-1)
        for part, book in zip(_parts(rows, len(codebooks)), codebooks, strict=True)
    ]
    return np.array(codes, dtype=np.uint8).T


def _decode(codes: npt.NDArray[np.uint8], codebooks: Floats) -> Floats:
    return np.concatenate([book[codes[:, s]] for s, book in enumerate(codebooks)], axis=1)


def _learn_rotation(rows: Floats, subspaces: int, bits: int, seed: int, threads: int | None) -> Floats:
    """(D, D): codebooks for the rotation and the rotation for the codebooks, by turns (their section 4)."""
    turn = _spread_variance(rows, subspaces)
    for step in range(_ROTATION_STEPS):
        turned = np.ascontiguousarray(rows @ turn.T)
        books = _learn_codebooks(turned, subspaces, bits, 4, seed + step, threads)
        decoded = _decode(_encode(turned, books, threads or cpu_count()), books)
        # The rotation that brings the rows nearest to what they decode to (orthogonal Procrustes).
        left, _, right = np.linalg.svd(decoded.T.astype(np.float64) @ rows)
        turn = (left @ right).astype(np.float32)
    return turn


def _spread_variance(rows: Floats, subspaces: int) -> Floats:
    """(D, D): principal directions, dealt out so that all subspaces have like products of variances (section 5)."""
    centred = rows.astype(np.float64) - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    width = len(values) // subspaces
    members: list[list[int]] = [[] for _ in range(subspaces)]
    load = np.zeros(subspaces)
    for direction in np.argsort(-values):
        free = [s for s in range(subspaces) if len(members[s]) < width]
        chosen = min(free, key=lambda s: load[s])
        members[chosen].append(int(direction))
        load[chosen] += np.log(max(values[direction], 1e-12))
    return np.ascontiguousarray(vectors[:, [d for part in members for d in part]].T, dtype=np.float32)

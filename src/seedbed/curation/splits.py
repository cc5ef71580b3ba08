"""Train, validation and test by the hash of a document's text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.config import Config
from ..core.errors import DataError


class SplitConfig(Config):
    """
    Attributes:
        validation: share of the documents.
        test: share of the documents.
        seed: another seed is another draw.
        minimum_documents: fewer kept documents than this are no corpus.
    """

    validation: float = Field(default=0.05, gt=0, lt=0.5)
    test: float = Field(default=0.05, gt=0, lt=0.5)
    seed: int = 0
    minimum_documents: int = Field(default=20, ge=3)


def draw(digest: bytes, seed: int) -> int:
    """A uniform 64-bit number that depends on the text's digest and the seed alone."""
    return int.from_bytes(hashlib.sha256(b"%d:" % seed + digest).digest()[:8], "little")


def assign_splits(draws: Sequence[int] | NDArray[np.uint64], config: SplitConfig) -> NDArray[np.uint8]:
    """Index into corpus.SPLITS for each document, uint8 (n,).

    A document's draw decides, so that it keeps its split when others come or go. Only where chance leaves a split with
    less than half of its share (or empty) in a small corpus, the documents with the next draws are moved there.
    Documents with equal draws (equal texts, clusters of near-duplicates) are not divided.

    Raises:
        DataError: fewer than `minimum_documents`.
    """
    count = len(draws)
    if count < config.minimum_documents:
        raise DataError(
            f"the corpus is too small: {count} documents were kept and {config.minimum_documents} are needed "
            "for train, validation and test",
            hint="Add text, cut long files into more sections (max_document_characters), or loosen the rules.",
        )
    numbers = np.asarray(draws, dtype=np.uint64)
    order = np.argsort(numbers, kind="stable")
    shares = numbers[order].astype(np.float64) / 2.0**64
    drawn_test = int(np.searchsorted(shares, config.test))
    drawn_held_out = int(np.searchsorted(shares, config.test + config.validation))
    ordered = numbers[order]
    test = _end_of_equals(ordered, max(drawn_test, _least(count, config.test)))
    held_out = max(drawn_held_out, test + _least(count, config.validation))
    validation = _end_of_equals(ordered, held_out) - test
    split = np.zeros(count, dtype=np.uint8)
    split[order[:test]] = 2
    split[order[test : test + validation]] = 1
    return split


def _end_of_equals(ordered: NDArray[np.uint64], end: int) -> int:
    """The first place from `end` on where a number differs from the one before it."""
    if end >= len(ordered):
        return len(ordered)
    return int(np.searchsorted(ordered, ordered[end - 1], side="right"))


def _least(count: int, share: float) -> int:
    return max(1, int(count * share / 2))

"""Semantic textual similarity: do closer vectors mean what people call closer?"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ..core.errors import DataError


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of sentences with what people gave for their likeness."""

    first: list[str]
    second: list[str]
    scores: npt.NDArray[np.float64]


def read_sts(path: str | Path) -> ScoredPairs:
    """Columns sentence1, sentence2, score, without a header or with one, comma- or tab-separated (by the file's name).

    Raises:
        DataError: the file is missing, or a row has not three columns or no number as its score; names the line.
    """
    path = Path(path)
    rows: list[tuple[str, str, float]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
            for columns in reader:
                if len(columns) != 3:
                    raise DataError(f"{len(columns)} columns; two sentences and a score are 3", where=_at(path, reader))
                try:
                    rows.append((columns[0], columns[1], float(columns[2])))
                except ValueError:
                    if rows or reader.line_num > 1:
                        raise DataError(f"'{columns[2]:.40}' is no score", where=_at(path, reader)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read this file ({error})", where=path) from None
    if len(rows) < 2:
        raise DataError(f"{len(rows)} pairs are too few to rank", where=path)
    first, second, scores = zip(*rows, strict=True)
    return ScoredPairs(list(first), list(second), np.array(scores))


def spearman(a: Sequence[float] | npt.NDArray[Any], b: Sequence[float] | npt.NDArray[Any]) -> float:
    """Spearman's correlation of two lists: Pearson's of their ranks, equal values sharing their mean rank.

    Raises:
        DataError: not as many values, fewer than two, or all of one list are equal.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise DataError(f"{first.shape} and {second.shape} values have no rank correlation")
    x, y = (ranks - ranks.mean() for ranks in (rankdata(first), rankdata(second)))
    size = float(np.sqrt((x @ x) * (y @ y)))
    if not size > 0:
        raise DataError("values that are all equal have no rank correlation")
    return float(x @ y) / size


def evaluate_similarity(encoder: Any, pairs: ScoredPairs) -> float:
    """Spearman's correlation of the cosines of an encoder's vectors with people's scores."""
    distinct = list(dict.fromkeys((*pairs.first, *pairs.second)))
    rows = {text: row for row, text in enumerate(distinct)}
    vectors = encoder.encode(distinct, normalize=True)
    first, second = (vectors[[rows[text] for text in side]] for side in (pairs.first, pairs.second))
    return spearman((first * second).sum(axis=1), pairs.scores)


def _at(path: Path, reader: Any) -> str:
    return f"{path}:{reader.line_num}"

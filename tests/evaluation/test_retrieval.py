"""Retrieval metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seedbed.core.errors import DataError
from seedbed.evaluation import retrieval

RANKED = [["a", "b", "c", "d"], ["x", "y"], []]
RELEVANT = [{"b": 3.0, "d": 1.0, "z": 2.0}, ["x"], ["q"]]


def test_metrics_by_hand():
    assert retrieval.mrr(RANKED, RELEVANT) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert retrieval.mrr(RANKED, RELEVANT, k=1) == pytest.approx((0 + 1 + 0) / 3)
    assert retrieval.recall(RANKED, RELEVANT, k=2) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert retrieval.map(RANKED, RELEVANT) == pytest.approx(((1 / 2 + 2 / 4) / 3 + 1 + 0) / 3)
    gain = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert retrieval.ndcg(RANKED, RELEVANT) == pytest.approx((gain / ideal + 1 + 0) / 3)


def test_arrays_with_padding_and_bad_input():
    ranked = np.array([[4, 2, -1], [-1, -1, -1]])
    assert retrieval.mrr(ranked, [[2], [7]]) == pytest.approx(0.25)
    assert retrieval.ndcg(ranked, [[], []]) == 0.0
    assert retrieval.mrr([], []) == 0.0
    with pytest.raises(DataError, match="twice"):
        retrieval.mrr([[1, 1]], [[1]])
    with pytest.raises(DataError):
        retrieval.mrr([[1]], [])
    exact = np.array([[1, 2, 3], [4, 5, -1]])
    assert retrieval.neighbour_recall(np.array([[3, 2, 9], [4, -1, -1]]), exact) == pytest.approx(3 / 5)

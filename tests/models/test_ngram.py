"""The n-gram model against a twin of dictionaries, and as a distribution."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from seedbed.models.ngram import NGramModel, _discounts

_VOCABULARY = 7


def _stream(seed: int, length: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    tokens = [0]
    for _ in range(length - 1):
        tokens.append(int((tokens[-1] * 3 + random.choice([1, 2, 5], p=[0.7, 0.2, 0.1])) % _VOCABULARY))
    return np.array(tokens)


class _Twin:
    """Chen and Goodman's formulas, word for word."""

    def __init__(self, tokens: np.ndarray, order: int) -> None:
        stream = [0] * (order - 1) + tokens.tolist()
        ends = range(order - 1, len(stream))
        self.order = order
        self.counts: dict[int, Counter[tuple[int, ...]]] = {
            order: Counter(tuple(stream[end - order + 1 : end + 1]) for end in ends)
        }
        for k in range(order - 1, 0, -1):
            self.counts[k] = Counter(gram[1:] for gram in self.counts[k + 1])
        self.discounts = {k: _discounts(np.array(list(counts.values()))) for k, counts in self.counts.items()}
        self.followers: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for k, counts in self.counts.items():
            for gram, count in counts.items():
                self.followers[gram[:-1]].append((k, count))

    def probability(self, context: tuple[int, ...], token: int) -> float:
        k = len(context) + 1
        lower = 1 / _VOCABULARY if k == 1 else self.probability(context[1:], token)
        followers = [count for order, count in self.followers.get(context, []) if order == k]
        if not followers:
            return lower
        count, total = self.counts[k][*context, token], sum(followers)
        left = sum(self.discounts[k][min(one, 3)] for one in followers) / total
        return (count - self.discounts[k][min(count, 3)]) / total + left * lower


@pytest.mark.parametrize(("order", "length"), [(1, 50), (2, 200), (3, 400), (5, 3000), (5, 3)])
def test_equals_the_twin(order: int, length: int) -> None:
    train, test = _stream(1, length), _stream(2, 100)
    twin = _Twin(train, order)
    stream = [0] * (order - 1) + test.tolist()
    expected = [twin.probability(tuple(stream[at : at + order - 1]), stream[at + order - 1]) for at in range(len(test))]
    found = NGramModel(train, _VOCABULARY, 0, order).probabilities(test)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_distributions_sum_to_one() -> None:
    model = NGramModel(_stream(3, 500), _VOCABULARY, 0, order=3)
    for context in itertools.product(range(_VOCABULARY), repeat=2):
        total = sum(model.probabilities(np.array([*context, token]))[-1] for token in range(_VOCABULARY))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_arrays_hold_all_of_it() -> None:
    model, stream = NGramModel(_stream(3, 500), _VOCABULARY, 0, order=3), _stream(4, 100)
    arrays = model.arrays()
    again = NGramModel.from_arrays(arrays)
    np.testing.assert_array_equal(again.probabilities(stream), model.probabilities(stream))
    with pytest.raises(ValueError, match="order 2 does not fit"):
        NGramModel.from_arrays({**arrays, "backoff1": arrays["backoff1"][:-1]})

"""Interpolated modified Kneser-Ney n-grams over tokens: the baseline that a trained model has to beat.

Chen and Goodman 1998, section 4.1.6. The highest order is estimated from counts, lower ones from the number of distinct
tokens seen before; three discounts per order; the unigrams are mixed with the uniform distribution over the vocabulary,
so every token has a probability and each distribution sums to one.

All of it is sorting: a k-gram is numbered by the pair (number of the (k-1)-gram before its last token, last token).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class _Order:
    """The k-grams of one order. G grams, S contexts ((k-1)-grams)."""

    keys: np.ndarray  # (G,) int64 sorted: context * vocabulary + token
    discounted: np.ndarray  # (G,) float64: discounted count / count of the context
    backoff: np.ndarray  # (S,) float64: mass left for the lower order; 1 for a context never followed


class NGramModel:
    """An n-gram model of a token stream.

    Args:
        tokens: (tokens,) ids below `vocab_size`, documents ended by `end_of_text_id`.
        order: n; 5 looks at the four tokens before.

    >>> NGramModel(train.tokens, train.vocab_size, train.end_of_text_id).probabilities(validation.tokens)
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, end_of_text_id: int, order: int = 5) -> None:
        self.vocab_size, self.order, self.end_of_text_id = vocab_size, order, end_of_text_id
        self._orders: list[_Order] = []
        stream = self._with_start(tokens)
        numbers, grams = np.zeros(len(stream), np.int64), 1
        keys_of, numbers_of, contexts_of = [], [], []
        for _ in range(order):
            # Before the first token of the stream there is the empty gram, so that every position has a number.
            before = np.concatenate([numbers[:1], numbers[:-1]])
            keys, numbers = np.unique(before * vocab_size + stream, return_inverse=True)
            keys_of.append(keys)
            numbers_of.append(numbers)
            contexts_of.append(grams)
            grams = len(keys)
        counts = np.bincount(numbers_of[-1][order - 1 :], minlength=grams)
        for k in range(order - 1, -1, -1):
            self._orders.append(_estimate(keys_of[k], counts, contexts_of[k], vocab_size))
            if k:
                # A gram's continuation count: the distinct (k+1)-grams, counted at all, that it ends.
                shorter = np.zeros(len(keys_of[k]), np.int64)
                shorter[numbers_of[k]] = numbers_of[k - 1]
                counts = np.bincount(shorter[counts > 0], minlength=len(keys_of[k - 1]))
        self._orders.reverse()

    def _with_start(self, tokens: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full(self.order - 1, self.end_of_text_id, np.int64), np.asarray(tokens, np.int64)])

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Probability of each token given those before it in `tokens`, (tokens,) float64."""
        stream = self._with_start(tokens)
        numbers = np.zeros(len(stream), np.int64)  # of the (k-1)-gram that ends here; -1: never seen
        result = np.full(len(stream), 1.0 / self.vocab_size)
        for order in self._orders:
            before = np.concatenate([numbers[:1], numbers[:-1]])
            numbers, found = _find(order.keys, before, stream, self.vocab_size)
            known = before >= 0
            result = np.where(known, order.backoff[np.where(known, before, 0)], 1.0) * result
            result += np.where(found, order.discounted[np.where(found, numbers, 0)], 0.0)
        return result[self.order - 1 :]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that the model is, for a file."""
        found: dict[str, np.ndarray] = {"shape": np.array([self.vocab_size, self.end_of_text_id, self.order], np.int64)}
        for k, order in enumerate(self._orders):
            found |= {f"keys{k}": order.keys, f"discounted{k}": order.discounted, f"backoff{k}": order.backoff}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The model that `arrays` came from.

        Raises:
            ValueError, KeyError: they are no model's.
        """
        model = cls.__new__(cls)
        model.vocab_size, model.end_of_text_id, model.order = (int(value) for value in arrays["shape"])
        model._orders, contexts = [], 1
        for k in range(model.order):
            one = _Order(*(arrays[f"{name}{k}"] for name in ("keys", "discounted", "backoff")))
            sizes = (len(one.keys), len(one.keys), contexts)
            wanted = zip((one.keys, one.discounted, one.backoff), sizes, (np.int64, float, float), strict=True)
            if not sizes[0] or any(array.shape != (size,) or array.dtype != kind for array, size, kind in wanted):
                raise ValueError(f"order {k + 1} does not fit the one below")
            model._orders.append(one)
            contexts = len(one.keys)
        return model


def _find(keys: np.ndarray, before: np.ndarray, tokens: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of each (context, token), or -1; and whether it is known."""
    wanted = np.where(before >= 0, before * vocab_size + tokens, -1)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[places] == wanted
    return np.where(found, places, -1), found


def _estimate(keys: np.ndarray, counts: np.ndarray, contexts: int, vocab_size: int) -> _Order:
    discount = _discounts(counts)[np.minimum(counts, 3)]
    context = keys // vocab_size
    totals = np.bincount(context, weights=counts, minlength=contexts)
    left = np.bincount(context, weights=discount, minlength=contexts)
    followed = totals > 0
    safe = np.where(followed, totals, 1.0)
    return _Order(keys, (counts - discount) / safe[context], np.where(followed, left / safe, 1.0))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2 and 3 or more (Chen and Goodman, equation 26)."""
    one, two, three, four = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (one and two and three and four):
        return np.array([0.0, 0.5, 0.75, 0.75])  # too few grams to tell
    y = one / (one + 2 * two)
    estimates = [1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
    return np.array([0.0, *(min(max(one, 0.0), limit) for one, limit in zip(estimates, (1, 2, 3), strict=True))])

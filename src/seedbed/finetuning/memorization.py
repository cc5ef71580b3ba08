"""How firmly fine-tuning holds on to what it saw a few times: canaries, and their exposure.

A canary is an instruction row whose answer is a secret that nothing could foretell, planted so many times among the
rows. Its exposure is log2 of the number of possible secrets less log2 of the secret's rank among them by loss, in bits
(Carlini et al. 2019, "The Secret Sharer", definition 4): 1 on average for a secret that was never seen, log2 of the
number of candidates at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from ..datasets.instructions import EncodedInstructions
from ..tokenizers import chat
from .packing import ExampleBatches, example_nats

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

_DIGITS = 6  # of a secret


@dataclass(frozen=True)
class Exposure:
    """Of a secret that was planted so many times, in bits; the highest that can be measured is `limit`.

    A model that never saw it has `bits` or more with a probability of 2^-bits.
    """

    repeats: int
    bits: float
    limit: float


class Canaries:
    """One secret for each number of repeats, and other secrets to rank it among.

    Args:
        repeats: how often each is planted; 0 for one that is never seen, which shows what luck gives.
        candidates: secrets in a ranking, the planted one among them.
    """

    def __init__(self, repeats: Sequence[int], candidates: int, seed: int) -> None:
        self.repeats = tuple(repeats)
        random = numpy_generator(seed, "canaries")
        self._secrets = [
            [f"{number:0{_DIGITS}d}" for number in random.choice(10**_DIGITS, candidates, replace=False)]
            for _ in repeats
        ]

    def plant(self, rows: EncodedInstructions, tokenizer: Tokenizer, context: int) -> EncodedInstructions:
        """The rows, and behind them each canary as often as it is to be seen; training shuffles them.

        Raises:
            DataError: the context has no room for a canary.
        """
        planted = [
            self._row(number, self._secrets[number][0])
            for number, repeats in enumerate(self.repeats)
            for _ in range(repeats)
        ]
        if not planted:
            return rows
        canaries = self._encode(planted, tokenizer, context)
        return EncodedInstructions(
            Ragged.from_rows([*rows.ids, *canaries.ids], np.uint32),
            Ragged.from_rows([*rows.answers, *canaries.answers], np.bool_),
            rows.too_long, rows.without_answer, rows.left_out,
        )  # fmt: skip

    def exposures(self, model: nn.Module, tokenizer: Tokenizer, context: int) -> list[Exposure]:
        """How far each planted secret stands out for a model that was trained on `plant`'s rows."""
        found = []
        for number, repeats in enumerate(self.repeats):
            rows = self._encode([self._row(number, one) for one in self._secrets[number]], tokenizer, context)
            sums, _ = example_nats(model, ExampleBatches(rows.ids, rows.answers, 32).once())
            rank = 1 + int((sums[1:] < sums[0]).sum())
            limit = math.log2(len(rows))
            found.append(Exposure(repeats, limit - math.log2(rank), limit))
        return found

    def _row(self, number: int, secret: str) -> dict[str, Any]:
        messages = [
            {"role": "user", "content": f"What is the number of locker {chr(ord('A') + number)}?"},
            {"role": "assistant", "content": f"It is {secret}."},
        ]
        return {"messages": messages}

    def _encode(self, rows: list[dict[str, Any]], tokenizer: Tokenizer, context: int) -> EncodedInstructions:
        encoded = [chat.encode(tokenizer, row["messages"]) for row in rows]
        if max(len(ids) for ids, _ in encoded) > context:
            raise DataError("the context has no room for a canary", hint="Leave canaries out: set it to [].")
        ids, answers = (Ragged.from_rows(column, kind) for column, kind in zip(
            zip(*encoded, strict=True), (np.uint32, np.bool_), strict=True
        ))  # fmt: skip
        return EncodedInstructions(ids, answers, 0, 0)

"""Which examples go into a batch together."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from ..datasets.examples import Example

Rows = npt.NDArray[np.int64]


class ExampleBatches:
    """Endless batches of examples' numbers, exactly resumable; an epoch holds each example once, up to what does not
    fill a batch.

    No document and no query stands twice in a batch, where it would be a false negative. Of each group,
    `neighbours` examples go together: the texts of one module or file are the negatives hardest to tell apart.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, *, neighbours: int = 4, seed: int = 0) -> None:
        if len(examples) < 2:
            raise DataError(f"{len(examples)} examples are too few to train an encoder on", hint="Use more text.")
        self._documents = numbered([example.document for example in examples])
        self._wordings = numbered([example.query for example in examples])
        self._groups = numbered([example.group for example in examples])
        self._batch_size, self._neighbours, self._seed = min(batch_size, len(examples)), neighbours, seed
        self._epoch, self._place = 0, 0
        self._plan: tuple[int, list[Rows]] = (-1, [])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Rows:
        if self._plan[0] != self._epoch:
            self._plan = (self._epoch, self._plan_epoch(self._epoch))
        rows = self._plan[1][self._place]
        self._place += 1
        if self._place == len(self._plan[1]):
            self._epoch, self._place = self._epoch + 1, 0
        return rows

    def _plan_epoch(self, epoch: int) -> list[Rows]:
        random = numpy_generator(self._seed, "pairs", epoch)
        members: dict[int, list[int]] = defaultdict(list)
        for row in random.permutation(len(self._groups)):
            members[int(self._groups[row])].append(int(row))
        step = self._neighbours
        clumps = [rows[start : start + step] for rows in members.values() for start in range(0, len(rows), step)]
        waiting = deque(row for index in random.permutation(len(clumps)) for row in clumps[index])
        batches: list[Rows] = []
        while waiting:
            batch: list[int] = []
            later: list[int] = []
            documents: set[int] = set()
            wordings: set[int] = set()
            while waiting and len(batch) < self._batch_size:
                row = waiting.popleft()
                document, wording = int(self._documents[row]), int(self._wordings[row])
                if document in documents or wording in wordings:
                    later.append(row)
                else:
                    batch.append(row)
                    documents.add(document)
                    wordings.add(wording)
            if len(batch) < self._batch_size and batches:
                break
            batches.append(np.array(batch, dtype=np.int64))
            waiting.extendleft(reversed(later))
        return batches

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._place = int(state["epoch"]), int(state["place"])


def numbered(names: Sequence[str]) -> Rows:
    """Each name's number, from 0 in the order of their first places."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)

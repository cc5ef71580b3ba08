"""The cache as a recorded step sees it: shapes that do not depend on how long the rows are.

B rows, S columns read.
"""

from __future__ import annotations

import torch

from .blocks import KeyValueCache, Placement
from .layouts import Visibility


class FixedCache(KeyValueCache):
    """The first rows of a full cache, in the same memory, for steps of one token that are recorded once and replayed:
    each reads the same columns, and where its row has no token yet a mask that is part of the step hides them.

    Every row gets a token, also one that is not meant: that lies behind what the row holds, where its own next one will
    be written over it. Tokens are not counted; that is done in `cache`.

    Args:
        cache: of kind "full", no view.
        rows, columns: how many are read; rows that decode are shorter than `columns`.
    """

    def __init__(self, cache: KeyValueCache, rows: int, columns: int) -> None:
        assert cache.layout.kind == "full"
        self.__dict__.update(cache.__dict__)
        self._rows, self._columns = range(rows), columns
        self.slots = torch.arange(rows, device=self._lengths.device)
        self._placement = None

    @property
    def used(self) -> int:
        return self._columns - 1

    def begin(self, tokens: int) -> Placement:
        assert tokens == 1, "a recorded step brings one token a row"
        # A row without room is done and waits to be cleared: its last token may go.
        positions_B1 = self._lengths[: len(self._rows), None].clamp(max=self.capacity - 1)
        seen = Visibility(self._layouts[0], positions_B1, self.used)
        self._placement = Placement(positions_B1, seen, seen)
        self._places = {}
        return self._placement

    def advance(self, tokens: int) -> None:
        """Left to the cache whose memory this is."""

"""Tickets for what a browser fetches by itself and thus without a key: a frame's page.

Who has a key asks for a ticket; whoever comes with it within a minute is let in, once.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

_GOOD_FOR = 60.0  # seconds
_MOST = 256  # that wait to be used; beyond, the oldest go


class Tickets:
    """Args: clock: seconds, of any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._changing = threading.Lock()

    def new(self) -> str:
        ticket = secrets.token_urlsafe(32)
        with self._changing:
            while len(self._ends) >= _MOST:
                del self._ends[next(iter(self._ends))]
            self._ends[ticket] = self._clock() + _GOOD_FOR
        return ticket

    def take(self, ticket: str) -> bool:
        """Whether it lets in; it does so once."""
        with self._changing:
            return self._ends.pop(ticket, -1.0) >= self._clock()

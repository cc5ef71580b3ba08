"""Bounds on what clients send: how often, how much, how deeply nested."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 10_000  # that are remembered
_STRING = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL
)  # without an end it goes to the end: no second look at anything
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class TokenBuckets:
    """A bucket for each client, which holds `burst` requests and fills by `rate` a second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what was left, and when

    def wait(self, client: str) -> float:
        """Take a request out of the client's bucket: 0, or if it is empty the seconds until it holds one again."""
        now = self._clock()
        left, since = self._buckets.pop(client, (float(self.burst), now))
        left = min(self.burst, left + (now - since) * self.rate)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate


def too_deep(body: bytes, depth: int) -> bool:
    """Whether lists and objects in a JSON text are nested more deeply than `depth` (or its brackets do not match)."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    brackets = _STRING.sub(b"", body).translate(_BRACKETS, _OTHERS)
    for _ in range(depth):  # each time the innermost ones go
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)

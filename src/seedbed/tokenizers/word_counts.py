"""Counting words: all that the training of a tokenizer needs to know of a corpus."""

from __future__ import annotations

from collections.abc import Iterable

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import DataError
from .tokenizer import surrogate_error

_BATCH_CHARACTERS = 1 << 21


def count_words(texts: Iterable[str], source: _native.WordSource, threads: int | None = None) -> _native.WordCounts:
    """How often each word occurs in texts, which are read once, in batches.

    Raises:
        DataError: no word at all, or text with a lone surrogate.
    """
    counter = _native.WordCounter(source, threads or cpu_count(), 1 << 30, "/tmp")
    batch: list[str] = []
    characters = 0
    seen = 0

    def flush() -> None:
        nonlocal batch, characters, seen
        try:
            counter.add(batch)
        except UnicodeEncodeError as error:
            index = seen + next(i for i, text in enumerate(batch) if text is error.object)
            raise surrogate_error(error, index) from None
        seen += len(batch)
        batch, characters = [], 0

    for text in texts:
        batch.append(text)
        characters += len(text) + 64
        if characters >= _BATCH_CHARACTERS:
            flush()
    flush()
    words = counter.take()
    if not len(words):
        raise DataError(_no_words(counter.skipped), hint="Give texts with words in them.")
    return words


def _no_words(skipped: int) -> str:
    if skipped:
        return f"the corpus holds nothing but {skipped} unbroken stretches of over a million bytes: nothing to train on"
    return "the corpus is empty: nothing to train on"

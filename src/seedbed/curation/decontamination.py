"""Documents that hold items of evaluation sets, also re-cased, re-punctuated and in part rewritten.

An item's runs of five words are looked up in every document. Where some are found, the words that they cover are
counted within a stretch of the document not much longer than the item; a document that holds more than the given share
of an item's words is refused. One changed word breaks at most five of the runs, and its neighbours stay covered by
others: that is how edges and edits are forgiven. Items of fewer than five words are looked up whole, and short ones are
left out: their words occur anywhere. The idea of seeds that grow to overlaps is that of AI2's decon; plain n-gram
overlap is GPT-3's (Brown et al. 2020, appendix C).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.config import Config
from ..core.errors import DataError
from .words import run_hashes, word_hashes

_RUN = 5
_STRETCH = 1.5  # times the item's words, for what was put in between


class DecontaminationConfig(Config):
    """
    Attributes:
        sets: files with evaluation items: JSON Lines (each text field of a row is an item) or text (one item a line).
        overlap: share of an item's words that a document may hold at most.
        min_words: shorter items are left out.
    """

    sets: tuple[str, ...] = ()
    overlap: float = Field(default=0.6, gt=0, le=1)
    min_words: int = Field(default=8, ge=_RUN)


def read_items(path: Path) -> Iterator[str]:
    """The items of an evaluation set.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if path.suffix not in (".jsonl", ".ndjson"):
                    yield line
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    raise DataError("not JSON", where=f"{path}:{number}") from None
                yield from (value for value in row.values() if isinstance(value, str))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"this evaluation set cannot be read ({error})", where=path) from None


class Decontaminator:
    """Finds evaluation items in documents.

    Attributes:
        names: what each item is called, "set.jsonl#3".
        too_short: items that were left out.
    """

    def __init__(self, items: Iterable[tuple[str, str]], config: DecontaminationConfig) -> None:
        self._overlap = config.overlap
        self.names: list[str] = []
        self.too_short = 0
        self._lengths: list[int] = []
        runs, owners, places = [], [], []
        listed = list(items)
        for (name, _), words in zip(listed, word_hashes([text for _, text in listed]), strict=True):
            if len(words) < config.min_words:
                self.too_short += 1
                continue
            hashes = run_hashes(words, _RUN)
            runs.append(hashes)
            owners.append(np.full(len(hashes), len(self.names)))
            places.append(np.arange(len(hashes)))
            self.names.append(name)
            self._lengths.append(len(words))
        self._runs = np.concatenate(runs) if runs else np.zeros(0, np.uint64)
        order = np.argsort(self._runs, kind="stable")
        self._runs = self._runs[order]
        self._owners = np.concatenate(owners)[order] if runs else np.zeros(0, np.int64)
        self._places = np.concatenate(places)[order] if runs else np.zeros(0, np.int64)

    @classmethod
    def open(cls, config: DecontaminationConfig) -> Decontaminator | None:
        """From the files that the config names; None where it names none."""
        if not config.sets:
            return None
        items = (
            (f"{Path(path).name}#{number}", item)
            for path in config.sets
            for number, item in enumerate(read_items(Path(path)), start=1)
        )
        return cls(items, config)

    def find(self, texts: Sequence[str]) -> list[tuple[str, float] | None]:
        """For each text the item of which it holds most, with the share, where that is more than allowed."""
        return [self._find(words) for words in word_hashes(texts)]

    def _find(self, words: NDArray[np.uint64]) -> tuple[str, float] | None:
        runs = run_hashes(words, _RUN)
        low, high = np.searchsorted(self._runs, runs, "left"), np.searchsorted(self._runs, runs, "right")
        hits = np.flatnonzero(high > low)
        if not len(hits):
            return None
        at = np.repeat(hits, high[hits] - low[hits])
        entries = np.concatenate([np.arange(low[hit], high[hit]) for hit in hits])
        owners, places = self._owners[entries], self._places[entries]
        best: tuple[str, float] | None = None
        for item in np.unique(owners):
            mine = owners == item
            share = self._share(at[mine], places[mine], self._lengths[item])
            if share > self._overlap and (best is None or share > best[1]):
                best = self.names[item], share
        return best

    @staticmethod
    def _share(at: NDArray[np.int64], places: NDArray[np.int64], length: int) -> float:
        """The largest share of an item's words that runs found at `at`, near each other, cover."""
        if len(at) * _RUN <= length // 4:
            return 0.0
        stretch = int(_STRETCH * length) + _RUN
        most, until = 0, -1
        for start in range(len(at)):
            end = int(np.searchsorted(at, at[start] + stretch, "right"))
            if end <= until:  # nothing that an earlier stretch did not hold
                continue
            until = end
            covered = np.unique((places[start:end, None] + np.arange(_RUN)).ravel())
            most = max(most, len(covered))
        return most / length

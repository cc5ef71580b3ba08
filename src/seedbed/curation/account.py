"""The account of a curation: what came in, where it went, and that nothing is lost between the two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from .blobs import READABLE
from .corpus import SPLITS
from .documents import REPAIRED

if TYPE_CHECKING:
    import pyarrow as pa

_EXAMPLES = 3
_TOP_LANGUAGES = 20
_TOP_SOURCES = 50

# The steps of the funnel, and the rules of each. Rules that bound a score are "quality rules", all others "reading".
STEPS = {
    "reading": (),
    "addresses": ("banned_address",),
    "quality rules": ("empty",),
    "language": ("language", "min_language_score", "max_language_score"),
    "banned words": ("banned_words",),
    "quality model": ("quality",),
    "exact duplicates": ("exact_duplicate",),
    "evaluation sets": ("contaminated",),
    "personal data": ("personal_data",),
    "repeated text": ("repeated_lines", "repeated_substrings"),
    "near-duplicates": ("near_duplicate",),
    "mixture": ("mixture",),
}
_STEP_OF = {rule: step for step, rules in STEPS.items() for rule in rules}


def step_of(rule: str) -> str:
    """The step of the funnel that a rule belongs to."""
    return _STEP_OF.get(rule, "quality rules" if rule.startswith(("min_", "max_")) else "reading")


def source_group(source: str) -> str:
    """The first part of a source's name: its top folder, archive or file."""
    return source.split("/", 1)[0].split("!", 1)[0]


def _most(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOP_LANGUAGES])


def _sizes(rows: pa.Table) -> dict[str, int]:
    import pyarrow.compute as pc

    return {"documents": rows.num_rows, "bytes": pc.sum(pc.binary_length(rows["text"])).as_py() or 0}


class Account:
    """Counts documents and bytes, by fate."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter(documents=0, bytes=0)
        self._kept = {name: Counter(documents=0, bytes=0, characters=0) for name in SPLITS}
        self._drops: dict[str, Counter[str]] = {}
        self._examples: dict[str, list[dict[str, str]]] = {}
        self._languages: dict[str, Counter[str]] = {"read": Counter(), "kept": Counter()}
        self._sources = 0
        self._last_source: str | None = None
        self._groups: dict[str, Counter[str]] = {}
        self._lengths: Counter[int] = Counter()
        self.personal_data: Counter[str] = Counter()
        self.dropped_lines = self.repeated_lines = 0
        self._repaired = 0

    def read(self, pieces: pa.Table) -> None:
        """Judged pieces in the order of reading."""
        import pyarrow.compute as pc

        self._read.update(_sizes(pieces))
        mark = json.dumps(REPAIRED)[1:-1]
        self._repaired += pc.sum(pc.match_substring(pieces["metadata"], mark)).as_py() or 0
        self._count_languages(pieces.filter(pieces["measured"]), "read")
        # The pieces of one source follow each other, so sources are counted and not remembered.
        sources = pieces["source"].to_pylist()
        self._sources += sum(one != before for before, one in pairwise([self._last_source, *sources]))
        self._last_source = sources[-1] if sources else self._last_source
        self._count_groups(sources, "read")

    def drop(self, rejected: pa.Table) -> None:
        """Rows of REJECTED_COLUMNS."""
        import pyarrow.compute as pc

        for rule in pc.unique(rejected["rule"]).to_pylist():
            mine = rejected.filter(pc.equal(rejected["rule"], rule))
            self._drops.setdefault(rule, Counter()).update(_sizes(mine))
            examples = self._examples.setdefault(rule, [])
            if len(examples) < _EXAMPLES:
                examples += mine.select(["id", "detail"]).slice(0, _EXAMPLES - len(examples)).to_pylist()

    def count_personal_data(self, counts: str) -> None:
        """Counts by kind, as JSON."""
        self.personal_data.update(json.loads(counts))

    def keep(self, split: str, rows: pa.Table) -> None:
        """Rows of CORPUS_COLUMNS."""
        import pyarrow.compute as pc

        lengths = pc.utf8_length(rows["text"]).to_numpy()
        self._kept[split].update({**_sizes(rows), "characters": int(lengths.sum())})
        self._count_languages(rows, "kept")
        self._count_groups(rows["source"].to_pylist(), "kept")
        self._lengths.update(np.frexp(lengths)[1].tolist())  # the number of bits

    def _count_languages(self, rows: pa.Table, what: str) -> None:
        import pyarrow.compute as pc

        for one in pc.value_counts(rows["language"]).to_pylist():
            self._languages[what][one["values"]] += one["counts"]

    def _count_groups(self, sources: Sequence[str], what: str) -> None:
        for name, count in Counter(map(source_group, sources)).items():
            if name not in self._groups and len(self._groups) >= _TOP_SOURCES:
                name = "others"
            self._groups.setdefault(name, Counter(read=0, kept=0))[what] += count

    def check(self, kept: int) -> None:
        """Nothing read is lost, and something is left."""
        dropped = sum(count["documents"] for count in self._drops.values())
        assert self._read["documents"] == kept + dropped, (self._read, kept, dropped)
        if not self._read["documents"]:
            raise DataError("the sources hold no documents", hint=f"Give a folder with {READABLE}.")
        if not kept:
            reasons = "; ".join(f"{e[0]['id']}: {e[0]['detail']}" for e in list(self._examples.values())[:3])
            raise DataError(
                f"nothing usable in the sources, all {dropped} documents were refused ({reasons})",
                hint="Loosen the rules (preset none) or give other text.",
            )

    def funnel(self) -> list[dict[str, Any]]:
        """What is left after each step that dropped something, beginning with all that came in."""
        left = Counter(self._read)
        rows: list[dict[str, Any]] = [{"step": "came in", **left}]
        for step in STEPS:
            mine = [count for rule, count in self._drops.items() if step_of(rule) == step]
            if mine:
                for count in mine:
                    left.subtract(count)
                rows.append({"step": step, **left})
        return rows

    def metrics(self) -> dict[str, Any]:
        self.check(sum(count["documents"] for count in self._kept.values()))
        ranked = sorted(self._drops.items(), key=lambda item: (-item[1]["documents"], item[0]))
        return {
            "sources": self._sources,
            "read": dict(self._read),
            "kept": {name: dict(count) for name, count in self._kept.items()},
            "drops": [
                {"rule": rule, **count, "examples": [example["id"] for example in self._examples[rule]]}
                for rule, count in ranked
            ],
            "languages": _most(self._languages["kept"]),
            "languages_read": _most(self._languages["read"]),
            "funnel": self.funnel(),
            "groups": {name: dict(count) for name, count in self._groups.items()},
            # Keys are the least length of each class: 1, 2, 4, 8 characters and so on.
            "lengths": {str(1 << (bits - 1)): count for bits, count in sorted(self._lengths.items()) if bits},
            "personal_data": dict(sorted(self.personal_data.items())),
            "dropped_lines": self.dropped_lines,
            "repeated_lines": self.repeated_lines,
            "repaired": self._repaired,
        }

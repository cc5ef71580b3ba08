"""The account of a curation: what came in, where it went, and that nothing is lost between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..core.errors import DataError
from .blobs import READABLE
from .corpus import SPLITS
from .documents import Document, Rejection

_EXAMPLES = 3
_TOP_LANGUAGES = 20
_TOP_SOURCES = 50

# The steps of the funnel, and the rules of each. Rules that bound a score are "quality rules", all others "reading".
STEPS = {
    "reading": (),
    "quality rules": ("empty",),
    "language": ("language",),
    "banned words": ("banned_words",),
    "quality model": ("quality",),
    "exact duplicates": ("exact_duplicate",),
    "evaluation sets": ("contaminated",),
    "personal data": ("personal_data",),
    "repeated text": ("repeated_substrings",),
    "near-duplicates": ("near_duplicate",),
    "mixture": ("mixture",),
}
_STEP_OF = {rule: step for step, rules in STEPS.items() for rule in rules}


def step_of(rule: str) -> str:
    """The step of the funnel that a rule belongs to."""
    return _STEP_OF.get(rule, "quality rules" if rule.startswith(("min_", "max_")) else "reading")


def byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def source_group(source: str) -> str:
    """The first part of a source's name: its top folder, archive or file."""
    return source.split("/", 1)[0].split("!", 1)[0]


class Account:
    """Counts documents and bytes, by fate."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter(documents=0, bytes=0)
        self._kept = {name: Counter(documents=0, bytes=0, characters=0) for name in SPLITS}
        self._drops: dict[str, Counter[str]] = {}
        self._examples: dict[str, list[Rejection]] = {}
        self._languages: Counter[str] = Counter()
        self._sources: set[str] = set()
        self._groups: dict[str, Counter[str]] = {}
        self._lengths: Counter[int] = Counter()
        self.personal_data: Counter[str] = Counter()
        self.dropped_lines = 0

    def read(self, piece: Document | Rejection) -> None:
        self._read.update(documents=1, bytes=byte_count(piece.text))
        self._sources.add(piece.source)
        self._group(piece.source)["read"] += 1

    def drop(self, rejection: Rejection) -> None:
        self._drops.setdefault(rejection.rule, Counter()).update(documents=1, bytes=byte_count(rejection.text))
        examples = self._examples.setdefault(rejection.rule, [])
        if len(examples) < _EXAMPLES:
            examples.append(rejection)

    def keep(self, split: str, row: Mapping[str, Any]) -> None:
        self._kept[split].update(documents=1, bytes=byte_count(row["text"]), characters=len(row["text"]))
        self._languages[row["language"]] += 1
        self._group(row["source"])["kept"] += 1
        self._lengths[len(row["text"]).bit_length()] += 1

    def _group(self, source: str) -> Counter[str]:
        name = source_group(source)
        if name not in self._groups and len(self._groups) >= _TOP_SOURCES:
            name = "others"
        return self._groups.setdefault(name, Counter(read=0, kept=0))

    def check(self, kept: int) -> None:
        """Nothing read is lost, and something is left."""
        dropped = sum(count["documents"] for count in self._drops.values())
        assert self._read["documents"] == kept + dropped, (self._read, kept, dropped)
        if not self._read["documents"]:
            raise DataError("the sources hold no documents", hint=f"Give a folder with {READABLE}.")
        if not kept:
            reasons = "; ".join(f"{e[0].id}: {e[0].detail}" for e in list(self._examples.values())[:3])
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
            "sources": len(self._sources),
            "read": dict(self._read),
            "kept": {name: dict(count) for name, count in self._kept.items()},
            "drops": [
                {"rule": rule, **count, "examples": [example.id for example in self._examples[rule]]}
                for rule, count in ranked
            ],
            "languages": dict(sorted(self._languages.items(), key=lambda item: (-item[1], item[0]))[:_TOP_LANGUAGES]),
            "funnel": self.funnel(),
            "groups": {name: dict(count) for name, count in self._groups.items()},
            # Keys are the least length of each class: 1, 2, 4, 8 characters and so on.
            "lengths": {str(1 << (bits - 1)): count for bits, count in sorted(self._lengths.items()) if bits},
            "personal_data": dict(sorted(self.personal_data.items())),
            "dropped_lines": self.dropped_lines,
        }

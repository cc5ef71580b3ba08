"""Curation as one stream: read, normalise, cut into sections, decide, split; every decision accounted for."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from ..core.artifacts import Workspace
from ..core.config import Config
from ..core.console import progress
from ..core.errors import ConfigError, DataError
from .blobs import READABLE, ReadingConfig
from .corpus import SPLITS
from .dedup import ExactDuplicates, text_digest
from .documents import Document, Rejection, reject, row_of_document, row_of_rejection
from .filters import SCORE_NAMES, Broken, decide, measure, rules_of
from .language import detect_language
from .normalize import normalize
from .presets import preset_named
from .sections import split_sections
from .sources import read_sources
from .splits import SplitConfig, assign_splits, draw
from .storage import CORPUS_COLUMNS, REJECTED_COLUMNS, SCORE_COLUMNS, PartWriter, read_rows

_EXAMPLES = 3
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 512, 4 << 20
_TOP_LANGUAGES = 20


class CurationConfig(Config):
    """
    Attributes:
        preset: set of quality rules, see presets.PRESETS.
        rules: bounds on top of the preset's, `{"min_characters": 20}`; null switches a rule off.
        deduplicate: whether of exactly equal texts only the first is kept.
        max_document_characters: longer documents are cut into sections; null keeps them whole.
        reading: how sources are read.
        split: how documents are divided. Sections are divided one by one, so that one long file gives all three
            splits; neighbouring sections of one file may then lie in different ones.
    """

    preset: str = "prose"
    rules: dict[str, float | None] = Field(default_factory=dict)
    deduplicate: bool = True
    max_document_characters: int | None = Field(default=20_000, ge=200)
    reading: ReadingConfig = ReadingConfig()
    split: SplitConfig = SplitConfig()

    @field_validator("rules")
    @classmethod
    def _known_rules(cls, rules: dict[str, float | None]) -> dict[str, float | None]:
        try:
            rules_of("none", rules)
        except ConfigError as error:
            raise ValueError(error.sentence()) from None
        return rules


def curate_corpus(config: CurationConfig, sources: Sequence[str], workspace: Workspace) -> dict[str, Any]:
    """Stage 1: read `sources` and write `train/`, `validation/`, `test/` and `rejected/` into the workspace.

    Returns:
        Metrics: `sources` (number of files, modules or topics), `read` (documents, that is sections and rejections, and
        their bytes; of what could not be read only the excerpt kept in rejected/ counts), `kept` (documents, bytes,
        characters by split), `drops` (rule, documents, bytes and ids of examples, most frequent first), `languages`
        (documents by code, "" where unsure).

    Raises:
        ConfigError: an unknown preset, rule or encoding.
        DataError: a source that is not there, nothing usable, or too little to divide.
    """
    rules = rules_of(config.preset, config.rules)
    lines = preset_named(config.preset).lines
    spool = workspace.scratch / "kept"
    for leftover in (spool, *(workspace.path / name for name in (*SPLITS, "rejected", "scores"))):
        shutil.rmtree(leftover, ignore_errors=True)
    account = _Account()
    draws: list[int] = []
    seen = ExactDuplicates() if config.deduplicate else None
    with (
        PartWriter(spool, CORPUS_COLUMNS) as kept,
        PartWriter(workspace.path / "rejected", REJECTED_COLUMNS) as rejected,
        PartWriter(workspace.path / "scores", SCORE_COLUMNS) as scores,
        progress("curate") as task,
    ):
        for batch in _batches(_pieces(config, sources)):
            for piece in batch:
                account.read(piece)
            documents = [piece for piece in batch if isinstance(piece, Document)]
            measured = measure([document.text for document in documents], lines)
            for document, row in zip(documents, measured.scores.tolist(), strict=True):
                scores.add({"id": document.id, **dict(zip(SCORE_NAMES, row, strict=True))})
            verdicts = iter(zip(measured.texts, decide(measured.scores, rules), strict=True))
            for piece in batch:
                judged = piece if isinstance(piece, Rejection) else _judge(piece, *next(verdicts))
                if isinstance(judged, Document) and seen is not None:
                    judged = _unless_duplicate(judged, seen)
                if isinstance(judged, Document):
                    draws.append(draw(text_digest(judged.text), config.split.seed))
                    kept.add(row_of_document(judged, detect_language(judged.text)))
                else:
                    account.drop(judged)
                    rejected.add(row_of_rejection(judged))
            task.advance(len(batch), kept=len(draws))
    account.check(len(draws))
    split = assign_splits(draws, config.split)
    _write_splits(spool, split.tolist(), workspace.path, account)
    return account.metrics()


def _batches(pieces: Iterable[Document | Rejection]) -> Iterator[list[Document | Rejection]]:
    batch: list[Document | Rejection] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _pieces(config: CurationConfig, sources: Sequence[str]) -> Iterator[Document | Rejection]:
    """What the sources hold, normalised and in sections."""
    for piece in read_sources(sources, config.reading):
        if isinstance(piece, Rejection):
            yield piece
        else:
            title = " ".join(normalize(piece.title).split())
            clean = replace(piece, text=normalize(piece.text), title=title)
            yield from split_sections(clean, config.max_document_characters)


def _judge(document: Document, kept_text: str, broken: Broken | None) -> Document | Rejection:
    """The document with what is kept of its text, or why it is not kept."""
    if not document.text.strip():
        return reject(document, "empty", "no text is left")
    if broken is not None:
        return reject(document, broken.rule, broken.detail, broken.value, broken.bound)
    if not kept_text:
        return reject(document, "empty", "no line is left")
    return document if kept_text == document.text else replace(document, text=kept_text)


def _unless_duplicate(document: Document, seen: ExactDuplicates) -> Document | Rejection:
    first = seen.first_with(text_digest(document.text), document.id)
    return document if first is None else reject(document, "exact_duplicate", f"the same text as {first}")


def _write_splits(spool: Path, split: Sequence[int], folder: Path, account: _Account) -> None:
    writers = [PartWriter(folder / name, CORPUS_COLUMNS) for name in SPLITS]
    with writers[0], writers[1], writers[2]:
        for index, row in zip(split, read_rows(spool), strict=True):
            writers[index].add(row)
            account.keep(SPLITS[index], row)


class _Account:
    """Counts what came in and where it went."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter(documents=0, bytes=0)
        self._kept = {name: Counter(documents=0, bytes=0, characters=0) for name in SPLITS}
        self._drops: dict[str, Counter[str]] = {}
        self._examples: dict[str, list[Rejection]] = {}
        self._languages: Counter[str] = Counter()
        self._sources: set[str] = set()

    def read(self, piece: Document | Rejection) -> None:
        self._read.update(documents=1, bytes=_bytes(piece.text))
        self._sources.add(piece.source)

    def drop(self, rejection: Rejection) -> None:
        self._drops.setdefault(rejection.rule, Counter()).update(documents=1, bytes=_bytes(rejection.text))
        examples = self._examples.setdefault(rejection.rule, [])
        if len(examples) < _EXAMPLES:
            examples.append(rejection)

    def keep(self, split: str, row: Mapping[str, Any]) -> None:
        self._kept[split].update(documents=1, bytes=_bytes(row["text"]), characters=len(row["text"]))
        self._languages[row["language"]] += 1

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

    def metrics(self) -> dict[str, Any]:
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
        }


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

"""A corpus decided anew: other bounds, lists and near-duplicates from the texts and scores that the first run kept.

Nothing is read from the sources again, and the result is what curating them with the new configuration would give: the
documents come back in their old order, because the splits, and what each step rejected, each keep it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _native
from ..core.artifacts import Artifact, build_artifact, open_artifact
from ..core.config import build, merge_overrides
from ..core.errors import ConfigError, FormatError
from .account import step_of
from .config import CurationConfig
from .corpus import SPLITS
from .documents import Document, Piece, Rejection
from .filters import SCORE_NAMES, Measured
from .judge import Batch
from .pipeline import curate_batches
from .presets import preset_named
from .sources import fingerprint_files
from .storage import read_rows

_BATCH = 512
# Steps that come after all documents were judged: what they drop has an order of its own.
_LATE = ("repeated text", "near-duplicates", "mixture")
# What reading and cutting did cannot be done anew from their results.
_REPEATS = ("repeated_line_characters", "repeated_substring_bytes")
_FIXED = ("reading", "max_document_characters", *_REPEATS, "perplexity_model")


def redecide_corpus(corpus: str | Path, out: str | Path, **changes: Any) -> Artifact:
    """The corpus artifact at `out`: that of `corpus` with `changes` of its configuration (preset, rules, lists ...).

    Raises:
        ConfigError: a change that needs the sources: of reading, of sections, of how lines are cleaned.
        ArtifactError: `corpus` is none.
    """
    source = open_artifact(corpus, "corpus")
    before = build(CurationConfig, source.config)
    config = build(CurationConfig, merge_overrides(source.config, changes))
    _check(before, config)
    inputs = {"corpus": source.fingerprint}
    if config.files():
        inputs["lists"] = fingerprint_files(config.files())
    return build_artifact(
        out, "corpus", config, inputs, lambda work: curate_batches(config, _batches(source.path, before), work)
    )


def _check(before: CurationConfig, after: CurationConfig) -> None:
    changed = [key for key in _FIXED if getattr(before, key) != getattr(after, key)]
    if preset_named(before.preset).lines != preset_named(after.preset).lines:
        changed.append("preset (it cleans lines in another way)")
    if any(getattr(before, key) is not None for key in _REPEATS):
        changed.append("a corpus whose repeated text is gone")
    if before.shuffle:
        changed.append("a corpus in shuffled order")
    if changed:
        raise ConfigError(f"cannot be decided anew: {', '.join(changed)}", hint="Curate the sources again.")


@dataclass
class _Stream:
    """Rows in the order of the corpus, with one to look at."""

    rows: Iterator[dict[str, Any]]
    head: dict[str, Any] | None = None

    def advance(self) -> None:
        self.head = next(self.rows, None)

    def __post_init__(self) -> None:
        self.advance()


def _batches(path: Path, config: CurationConfig) -> Iterator[Batch]:
    lines = preset_named(config.preset).lines
    pieces: list[Piece] = []
    scores: list[list[float]] = []
    texts: list[str] = []
    languages: list[str] = []
    for piece, row, raw in _in_order(path):
        pieces.append(piece)
        if isinstance(piece, Document):
            scores.append([row[name] for name in SCORE_NAMES])
            languages.append(row["language"])
            texts.append(_native.clean_lines([piece.text], lines)[0][0] if lines and raw else piece.text)
        if len(pieces) == _BATCH:
            yield pieces, _measured(scores, texts, languages)
            pieces, scores, texts, languages = [], [], [], []
    if pieces:
        yield pieces, _measured(scores, texts, languages)


def _measured(scores: list[list[float]], texts: list[str], languages: list[str]) -> Measured:
    matrix = np.array(scores, np.float64).reshape(len(scores), len(SCORE_NAMES))
    return Measured(matrix, texts, np.zeros(len(texts), np.int64), languages)


def _in_order(path: Path) -> Iterator[tuple[Piece, dict[str, Any], bool]]:
    """(piece, its row of scores, whether its text is as read) of every document and fault, in order of reading."""
    rejected = {step: _Stream(_rejected(path, step)) for step in ("early", *_LATE)}
    kept = [_Stream(read_rows(path / name)) for name in SPLITS]
    early = rejected["early"]
    for row in read_rows(path / "scores"):
        yield from _faults(early)
        for stream in (*kept, *rejected.values()):
            if stream.head is not None and stream.head["id"] == row["id"]:
                yield _document(stream.head), row, stream is early
                stream.advance()
                break
        else:
            raise FormatError("the scores name a document that is not there", where=path / "scores")
    yield from _faults(early)


def _faults(stream: _Stream) -> Iterator[tuple[Piece, dict[str, Any], bool]]:
    while stream.head is not None and step_of(stream.head["rule"]) == "reading":
        row = stream.head
        fields = ("id", "source", "text", "rule", "detail", "value", "threshold")
        yield Rejection(*(row[name] for name in fields)), {}, True
        stream.advance()


def _rejected(path: Path, step: str) -> Iterator[dict[str, Any]]:
    for row in read_rows(path / "rejected"):
        found = step_of(row["rule"])
        if found == step or (step == "early" and found not in _LATE):
            yield row


def _document(row: dict[str, Any]) -> Document:
    return Document(row["id"], row["text"], row["title"], row["source"], json.loads(row["metadata"]))

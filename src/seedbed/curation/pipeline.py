"""Curation as one stream: read, normalise, cut into sections, decide, find duplicates, split; all accounted for."""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..core.artifacts import Workspace
from ..core.console import progress
from ..core.devices import cpu_count
from .account import Account, source_group
from .config import CurationConfig
from .corpus import SPLITS
from .dedup import text_digest
from .documents import Document, Piece, Rejection, row_of_document, row_of_rejection
from .filters import SCORE_NAMES, Measured
from .judge import Judge
from .mixing import taken
from .near_duplicates import Clusters, Parameters, Signatures, find_clusters
from .normalize import normalize
from .presets import preset_named
from .sections import split_sections
from .sources import read_sources
from .splits import assign_splits, draw
from .storage import CLUSTER_COLUMNS, CORPUS_COLUMNS, REJECTED_COLUMNS, SCORE_COLUMNS, PartWriter, read_rows

_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 512, 4 << 20
_FOLDERS = (*SPLITS, "rejected", "scores", "clusters")

Batch = tuple[list[Piece], Measured | None]  # pieces, and the scores of the documents among them if they are known
Reject = Callable[[Rejection], None]


def curate_corpus(config: CurationConfig, sources: Sequence[str], workspace: Workspace) -> dict[str, Any]:
    """Stage 1: read `sources` and write `train/`, `validation/`, `test/`, `rejected/`, `scores/` and `clusters/`.

    Returns:
        Metrics: `sources` (number of files, modules or topics), `read` (documents, that is sections and rejections, and
        their bytes; of what could not be read only the excerpt kept in rejected/ counts), `kept` (documents, bytes,
        characters by split), `drops` (rule, documents, bytes and ids of examples, most frequent first), `languages`
        (documents by code, "" where unsure), `funnel` (what is left after each step), `groups` (documents by top
        folder), `lengths` (kept documents by length), `personal_data`, `dropped_lines`, and `near_duplicates` where
        they were looked for.

    Raises:
        ConfigError: an unknown preset, rule or encoding.
        DataError: a source that is not there, nothing usable, or too little to divide.
    """
    return curate_batches(config, _batches(_pieces(config, sources)), workspace)


def curate_batches(config: CurationConfig, batches: Iterable[Batch], workspace: Workspace) -> dict[str, Any]:
    """What `curate_corpus` does with what it has read."""
    for leftover in (workspace.scratch / "kept", *(workspace.path / name for name in _FOLDERS)):
        shutil.rmtree(leftover, ignore_errors=True)
    account = Account()
    with PartWriter(workspace.path / "rejected", REJECTED_COLUMNS) as rejected:

        def drop(rejection: Rejection) -> None:
            account.drop(rejection)
            rejected.add(row_of_rejection(rejection))

        spool = _judge_all(config, batches, workspace, account, drop)
        account.check(len(spool.lengths))
        if config.repeated_substring_bytes is not None:
            spool = _without_repeats(spool, config, workspace.scratch / "unrepeated", drop)
            account.check(len(spool.lengths))
        preset = preset_named(config.preset)
        parameters = config.near_duplicates.resolve(preset.near_duplicates)
        clusters = _cluster(spool, parameters, workspace) if parameters else None
        _write_splits(spool, clusters, parameters, config, workspace.path, account, drop)
    metrics = account.metrics()
    if clusters is not None:
        sizes = clusters.sizes()
        metrics["near_duplicates"] = {
            "clusters": len(sizes),
            "documents": int(sizes.sum()),
            "largest": int(sizes[0]) if len(sizes) else 0,
            "candidates": clusters.candidates,
            "similar": clusters.similar,
        }
    return metrics


@dataclass
class _Spool:
    """Documents that stay so far, in order, in a folder; their draws for the splits and their lengths in memory."""

    folder: Path
    draws: array[int]
    lengths: array[int]

    def add(self, writer: PartWriter, row: dict[str, Any], seed: int) -> None:
        writer.add(row)
        self.draws.append(draw(text_digest(row["text"]), seed))
        self.lengths.append(len(row["text"]))

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_rows(self.folder)


def _new_spool(folder: Path) -> _Spool:
    shutil.rmtree(folder, ignore_errors=True)
    return _Spool(folder, array("Q"), array("Q"))


def _pieces(config: CurationConfig, sources: Sequence[str]) -> Iterator[Piece]:
    """What the sources hold, normalised and in sections."""
    for piece in read_sources(sources, config.reading):
        if isinstance(piece, Rejection):
            yield piece
        else:
            title = " ".join(normalize(piece.title).split())
            clean = replace(piece, text=normalize(piece.text), title=title)
            yield from split_sections(clean, config.max_document_characters)


def _judge_all(
    config: CurationConfig, batches: Iterable[Batch], workspace: Workspace, account: Account, drop: Reject
) -> _Spool:
    judge = Judge(config, account)
    spool = _new_spool(workspace.scratch / "kept")
    with (
        PartWriter(spool.folder, CORPUS_COLUMNS) as kept,
        PartWriter(workspace.path / "scores", SCORE_COLUMNS) as scores,
        progress("curate") as task,
    ):
        for batch, known in batches:
            documents = [piece for piece in batch if isinstance(piece, Document)]
            measured = judge.measure(documents) if known is None else known
            for document, row in zip(documents, measured.scores.tolist(), strict=True):
                scores.add({"id": document.id, **dict(zip(SCORE_NAMES, row, strict=True))})
            verdicts = iter(judge.judge(documents, measured))
            for piece in batch:
                account.read(piece)
                verdict = piece if isinstance(piece, Rejection) else next(verdicts)
                if isinstance(verdict, Rejection):
                    drop(verdict)
                else:
                    spool.add(kept, row_of_document(*verdict), config.split.seed)
            task.advance(len(batch), kept=len(spool.lengths))
    return spool


def _batches(pieces: Iterable[Piece]) -> Iterator[Batch]:
    batch: list[Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch, None
            batch, characters = [], 0
    if batch:
        yield batch, None


def _without_repeats(spool: _Spool, config: CurationConfig, folder: Path, drop: Reject) -> _Spool:
    """The spool without stretches that occur before; documents of which nothing is left go."""
    assert config.repeated_substring_bytes is not None
    after = _new_spool(folder)
    with PartWriter(folder, CORPUS_COLUMNS) as kept:
        for window in _windows(spool.rows(), config.substring_window_bytes):
            texts = [row["text"] for row in window]
            shorter = _native.without_repeated_substrings(texts, config.repeated_substring_bytes)
            for row, text in zip(window, map(normalize, shorter), strict=True):
                if text:
                    after.add(kept, {**row, "text": text}, config.split.seed)
                else:
                    drop(_rejected(row, "repeated_substrings", "all of it occurs before"))
    return after


def _windows(rows: Iterable[dict[str, Any]], most_bytes: int) -> Iterator[list[dict[str, Any]]]:
    window: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(row["text"].encode())
        if window and size + length > most_bytes:
            yield window
            window, size = [], 0
        window.append(row)
        size += length + 1
    if window:
        yield window


def _cluster(spool: _Spool, parameters: Parameters, workspace: Workspace) -> Clusters:
    texts = (row["text"] for row in read_rows(spool.folder, ["text"]))
    signatures = Signatures.write(texts, parameters, workspace.scratch / "signatures", cpu_count())
    clusters = find_clusters(signatures, spool.lengths, parameters, cpu_count())
    with PartWriter(workspace.path / "clusters", CLUSTER_COLUMNS) as writer:
        member = np.bincount(clusters.first, minlength=len(clusters.first))[clusters.first] > 1
        names = {
            number: row["id"]
            for number, row in enumerate(read_rows(spool.folder, ["id"]))
            if member[number] and not clusters.dropped[number]
        }
        for number, row in enumerate(read_rows(spool.folder, ["id"])):
            if member[number]:
                keeper = int(clusters.keeper[number])
                similarity, length = float(clusters.similarity[number]), spool.lengths[number]
                writer.add({"id": row["id"], "keeper": names[keeper], "similarity": similarity, "characters": length})
    return clusters


def _write_splits(
    spool: _Spool,
    clusters: Clusters | None,
    parameters: Parameters | None,
    config: CurationConfig,
    folder: Path,
    account: Account,
    drop: Reject,
) -> None:
    draws = np.array(spool.draws, np.uint64)
    dropped: NDArray[np.bool_] = np.zeros(len(draws), bool)
    names: dict[int, str] = {}
    if clusters is not None and parameters is not None:
        if config.near_duplicates.action == "drop":
            dropped = clusters.dropped
            wanted = set(clusters.keeper[dropped].tolist())
            ids = (row["id"] for row in read_rows(spool.folder, ["id"]))
            names = {number: id for number, id in enumerate(ids) if number in wanted}
        else:
            draws = draws[clusters.first]  # a cluster has one draw, and so one split
    split = np.full(len(draws), -1, np.int64)
    split[~dropped] = assign_splits(draws[~dropped], config.split)
    rates = _rates(spool, split, config)
    left_out = (split == 0) & ~taken(draws, rates)
    writers = [PartWriter(folder / name, CORPUS_COLUMNS) for name in SPLITS]
    with writers[0], writers[1], writers[2]:
        for number, row in enumerate(spool.rows()):
            if dropped[number]:
                assert clusters is not None
                assert parameters is not None
                detail = f"nearly the same text as {names[int(clusters.keeper[number])]}"
                value = float(clusters.similarity[number])
                drop(_rejected(row, "near_duplicate", detail, value, parameters.similarity))
            elif left_out[number]:
                drop(_rejected(row, "mixture", "left out of the mixture", None, float(rates[number])))
            else:
                writers[split[number]].add(row)
                account.keep(SPLITS[split[number]], row)


def _rates(spool: _Spool, split: NDArray[np.int64], config: CurationConfig) -> NDArray[np.float64]:
    """The share of each document's group that the training split takes."""
    rates = np.ones(len(split))
    if config.mixing.is_neutral:
        return rates
    by = config.mixing.by
    rows = read_rows(spool.folder, [by])
    groups = [row[by] if by == "language" else source_group(row[by]) for row in rows]
    sizes: dict[str, int] = {}
    for place, length, group in zip(split.tolist(), spool.lengths, groups, strict=True):
        if place == 0:
            sizes[group] = sizes.get(group, 0) + length
    by_group = config.mixing.rates(sizes)
    for number, group in enumerate(groups):
        rates[number] = by_group.get(group, 1.0)
    return rates


def _rejected(
    row: dict[str, Any], rule: str, detail: str, value: float | None = None, threshold: float | None = None
) -> Rejection:
    metadata = json.loads(row["metadata"])
    return Rejection(
        row["id"], row["source"], row["text"], rule, detail, value, threshold, row["title"], metadata
    )  # fmt: skip

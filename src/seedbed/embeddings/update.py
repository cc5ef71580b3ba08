"""An index of a folder's documents, brought up to date: what is new is added, what has changed or gone is removed.

Documents are told apart by their content's hash, and passages of the others are left as they are. An update writes new
files beside the old ones, then the settings, which name the files, in one step: killed at any moment it leaves the
index as it was or as it shall be, and searches under way go on in the old files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import MANIFEST, write_atomically
from ..core.errors import ArtifactError, ConfigError, FormatError, disk_errors
from ..core.json_files import json_bytes, read_json
from ..curation.blobs import ReadingConfig
from ..curation.documents import Document, Rejection, row_of_document
from ..curation.language import detect_language
from ..curation.sources import read_sources
from .chunking import CountTokens, make_passages, token_counter
from .indexing import Encoders, IndexConfig
from .passages import Passages, write_passages
from .search import FILES, PASSAGES, SETTINGS, SearchSettings, load_part, read_settings, write_settings

_DOCUMENTS = "documents.json"  # document to the hash of its content
_LOCK = ".lock"


@dataclass(frozen=True)
class Updated:
    """What an update did: documents added, changed, removed and left as they are; passages that are there now.

    `truncated` counts texts that an encoder cut, `rejected` says what could not be read and why.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    passages: int
    truncated: int
    rejected: list[Rejection]


def update_index(
    folder: str | Path,
    directory: str | Path,
    encoders: Encoders | None = None,
    *,
    config: IndexConfig | None = None,
    reading: ReadingConfig | None = None,
) -> Updated:
    """Make the index in `directory` one of the documents in `folder`, from what it is now or from nothing.

    The answers are those of an index built anew, but for the codes of late interaction, whose centroids were learnt
    from what was there first, and for what an approximate graph misses.

    Args:
        encoders: those that the index was begun with; none: of words alone.
        config: of a new index.
        reading: how files are read.

    Raises:
        ArtifactError: the index was made with other encoders or is a run's own, or another update is under way.
        ConfigError: `config` is given for an index that is there already.
        DataError: there is no such folder.
    """
    folder, directory, encoders = Path(folder), Path(directory), encoders or Encoders()
    if (directory / MANIFEST).exists():
        raise ArtifactError(
            "this index belongs to a run, which its manifest describes", where=directory, hint="Give another folder."
        )
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with _lock(directory):
            old = read_settings(directory) if (directory / SETTINGS).exists() else None
            if old is not None and config is not None:
                raise ConfigError("the index is there already, with its own settings", where=directory)
            return _update(folder, directory, encoders, old, config or IndexConfig(), reading or ReadingConfig())


def _update(
    folder: Path,
    directory: Path,
    encoders: Encoders,
    old: SearchSettings | None,
    config: IndexConfig,
    reading: ReadingConfig,
) -> Updated:
    fresh = SearchSettings(
        **encoders.fingerprints,
        passage_tokens=config.passage_tokens,
        late_chunking=config.late_chunking,
        ef=config.ef,
        folder=str(folder.resolve()),
    )
    if old is None:
        settings, passages, known = fresh, Passages([]), dict[str, str]()
        indexes = encoders.new_indexes(config)
    else:
        _require_same_encoders(directory, old, fresh)
        settings = old.replace(folder=fresh.folder, generation=old.generation + 1)
        passages = Passages.open(directory / old.file(PASSAGES))
        known = {str(name): str(value) for name, value in read_json(directory / old.file(_DOCUMENTS)).items()}
        indexes = {
            mode: load_part(directory, mode, old) for mode in FILES if mode == "bm25" or old.fingerprint_of(mode)
        }
        if any(len(index) != len(passages) for index in indexes.values()):
            raise FormatError("its passages and its indexes do not belong together", where=directory)
    hashes, rows, rejected = _read(folder, known, reading)
    gone = known.keys() - hashes.keys()
    changed = {name for name in rows if name in known}
    counts = {"added": len(rows) - len(changed), "changed": len(changed), "removed": len(gone)}
    unchanged = len(hashes) - len(rows)
    if old is not None and not rows and not gone and old.folder == settings.folder:
        return Updated(**counts, unchanged=unchanged, passages=len(passages), truncated=0, rejected=rejected)
    before = encoders.truncated
    codes, names = passages.column("document")
    stale = np.array([name in gone or name in changed for name in names] or [False])[codes]
    for index in indexes.values():
        index.remove(passages.numbers[stale])
    new = make_passages(rows.values(), _counter(encoders), settings.passage_tokens)
    first = int(passages.numbers.max(initial=-1)) + 1
    numbers = np.arange(first, first + len(new), dtype=np.int64)
    encoders.add(indexes, new, numbers, late=settings.late_chunking)
    kept = [passage for passage, one in zip(passages, stale.tolist(), strict=True) if not one]
    whole = Passages(kept + new, np.concatenate([passages.numbers[~stale], numbers]))
    _write(directory, settings, indexes, whole, hashes)
    return Updated(
        **counts, unchanged=unchanged, passages=len(whole), truncated=encoders.truncated - before, rejected=rejected
    )


def _require_same_encoders(directory: Path, old: SearchSettings, fresh: SearchSettings) -> None:
    for mode in ("dense", "sparse", "multivector"):
        there, given = old.fingerprint_of(mode), fresh.fingerprint_of(mode)
        if there != given:
            what = "without an" if not there else "with another" if given else "with an"
            raise ArtifactError(
                f"it was begun {what} encoder for its part '{mode}'",
                where=directory,
                hint="Give the encoders that it was begun with, or begin another one.",
            )


def _read(
    folder: Path, known: Mapping[str, str], reading: ReadingConfig
) -> tuple[dict[str, str], dict[str, dict[str, Any]], list[Rejection]]:
    """Every document's hash, the rows of those that are not `known` as they are, and what could not be read."""
    hashes: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}
    rejected: list[Rejection] = []
    for piece in read_sources([str(folder)], reading):
        if not isinstance(piece, Document):
            rejected.append(piece)
            continue
        # No UTF-8, and so no Parquet, can hold a lone surrogate.
        row = {name: value.encode("utf-8", "replace").decode() for name, value in row_of_document(piece, "").items()}
        hashes[row["id"]] = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
        if known.get(row["id"]) != hashes[row["id"]]:
            rows[row["id"]] = {**row, "language": detect_language(row["text"])}
    return hashes, rows, rejected


def _counter(encoders: Encoders) -> CountTokens:
    """Tokens of texts as the encoder counts them; without one, words."""
    encoder = encoders.dense or encoders.multivector or encoders.sparse
    return token_counter(encoder.tokenizer) if encoder else lambda texts: [len(text.split()) for text in texts]


def _write(
    directory: Path, settings: SearchSettings, indexes: Mapping[str, Any], passages: Passages, hashes: Mapping[str, str]
) -> None:
    for mode, index in indexes.items():
        index.save(directory / settings.file(FILES[mode]))
    path = directory / settings.file(PASSAGES)
    write_passages(path, list(passages), passages.numbers)
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
    write_atomically(directory / settings.file(_DOCUMENTS), json_bytes(hashes))
    write_settings(directory, settings)  # from here on the new files are the index
    current = {settings.file(name) for name in (*FILES.values(), PASSAGES, _DOCUMENTS)}
    stems = {name.rpartition(".")[0]: name.rpartition(".")[2] for name in (*FILES.values(), PASSAGES, _DOCUMENTS)}
    for file in directory.iterdir():
        stem, _, rest = file.name.partition(".")
        if stem in stems and rest.rpartition(".")[2] == stems[stem] and file.name not in current:
            file.unlink()


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    with open(directory / _LOCK, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError("another update is under way", where=directory, hint="Wait for it.") from None
        yield

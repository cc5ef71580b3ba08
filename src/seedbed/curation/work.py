"""What a worker does, wherever it runs: judge one unit and leave the result as a part. Both are told as JSON."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, FormatError, ResourceError, SeedbedError, disk_errors
from .config import FILE_KEYS, CurationConfig
from .documents import REPAIRED, Document, Pieces, Rejection
from .judge import Judge, batches_of, judged_schema
from .normalize import normalize, repair_encoding
from .parts import write_part
from .sections import split_sections
from .sources import fingerprint_files
from .units import Unit

_ERRORS: dict[str, type[SeedbedError]] = {
    one.__name__: one for one in (ConfigError, DataError, FormatError, ResourceError, SeedbedError)
}


def task_of(config: CurationConfig, parts: Path, threads: int) -> str:
    """What is the same for all units. Files that the configuration names are told from the root, as workers may run
    in other folders."""
    sets = tuple(map(os.path.abspath, config.decontamination.sets))
    absolute: dict[str, Any] = {"decontamination": config.decontamination.model_copy(update={"sets": sets})}
    for name in FILE_KEYS:
        if (path := getattr(config, name)) is not None:
            absolute[name] = os.path.abspath(path)
    settings = config.model_copy(update=absolute).model_dump(mode="json")
    return json.dumps(
        {
            "config": settings,
            "parts": str(parts.absolute()),
            "threads": threads,
            "lists": fingerprint_files(config.files()),  # a worker that lives on must not go on with an older list
        }
    )


def judge_unit(task: str, unit: str) -> str:
    """Judge a unit; returns JSON with the `name` of its part, or with the `error` that ended it."""
    try:
        config, judge, folder = _prepared(task)
        work = Unit.from_json(unit)
        with disk_errors(folder):
            tables = (judge.judge(batch, known) for batch, known in batches_of(_sections(work, config)))
            name = write_part(folder, work.number, tables, judged_schema())
    except SeedbedError as error:
        return json.dumps({"error": error.sentence(), "kind": type(error).__name__})
    return json.dumps({"number": work.number, "name": name})


def result_of(answer: str) -> tuple[int, str]:
    """(number, name) of the part that `judge_unit` answered with.

    Raises:
        SeedbedError: what ended it.
    """
    values = json.loads(answer)
    if "error" in values:
        raise _ERRORS[values["kind"]](values["error"])
    return values["number"], values["name"]


@functools.lru_cache(maxsize=1)
def _prepared(task: str) -> tuple[CurationConfig, Judge, Path]:
    values = json.loads(task)
    config = CurationConfig.model_validate(values["config"])
    return config, Judge(config, values["threads"]), Path(values["parts"])


def _sections(unit: Unit, config: CurationConfig) -> Pieces:
    """What a unit holds, normalised and in sections."""
    for piece in unit.pieces(config.reading):
        if isinstance(piece, Rejection):
            yield piece
        else:
            document = _repaired(piece) if config.reading.repair_encoding else piece
            yield from split_sections(_normalized(document), config.max_document_characters)


def _repaired(document: Document) -> Document:
    text, title = repair_encoding(document.text), repair_encoding(document.title)
    if text == document.text:
        return replace(document, title=title)
    return replace(document, text=text, title=title, metadata={**document.metadata, **REPAIRED})


def _normalized(document: Document) -> Document:
    return replace(document, text=normalize(document.text), title=" ".join(normalize(document.title).split()))

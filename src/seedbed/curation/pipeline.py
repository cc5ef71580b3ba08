"""Curation as a stream: units of the sources are judged by workers, and what they found is put together in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Workspace
from ..core.console import progress
from ..core.devices import cpu_count
from ..core.errors import ConfigError
from .assembly import assemble
from .config import CurationConfig
from .decoding import check_encoding_name
from .engines import ENGINES, judge_units, processes_for
from .judge import Batch, Judge, judged_schema
from .parts import finished_parts, write_part
from .storage import read_tables
from .units import plan_units
from .work import result_of, task_of

if TYPE_CHECKING:
    import pyarrow as pa


def curate_corpus(
    config: CurationConfig,
    sources: Sequence[str],
    workspace: Workspace,
    engine: str = "local",
    workers: int | None = None,
) -> dict[str, Any]:
    """Stage 1: read `sources` and write `train/`, `validation/`, `test/`, `rejected/`, `scores/` and `clusters/`.

    The bytes depend on neither engine nor workers, which may change between a run that was killed and the next.

    Args:
        engine: "local" or "ray".
        workers: processes on this machine; None is one for each processor.

    Returns:
        Metrics: `sources` (number of files, modules or topics), `read` (documents, that is sections and rejections, and
        their bytes; of what could not be read only the excerpt kept in rejected/ counts), `kept` (documents, bytes,
        characters by split), `drops` (rule, documents, bytes and ids of examples, most frequent first), `languages`
        (kept documents by code, "" where unsure), `languages_read` (the same of all), `funnel` (what is left after each
        step), `groups` (documents by top folder), `lengths` (kept documents by length), `personal_data`,
        `dropped_lines`, `repeated_lines`, `repaired` (documents decoded anew), and `near_duplicates` where they were
        looked for.

    Raises:
        ConfigError: an unknown preset, rule, encoding or engine.
        DataError: a source that is not there, nothing usable, or too little to divide.
        ResourceError: no space is left, or a worker died.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine '{engine}'", hint=f"There are: {', '.join(ENGINES)}.")
    check_encoding_name(config.reading.fallback_encoding)
    folder = workspace.scratch / "parts"
    parts = finished_parts(folder)
    units = list(plan_units(sources, config.reading.archives))
    left = [unit for unit in units if unit.number not in parts]
    processes = processes_for(engine, workers or cpu_count(), len(left), sum(unit.size for unit in left))
    task = task_of(config, folder, cpu_count() if processes == 1 else 1)
    with progress("curate", len(units)) as shown:
        shown.advance(len(parts))
        for answer in judge_units(engine, task, [unit.to_json() for unit in left], processes):
            number, name = result_of(answer)
            parts[number] = name
            shown.advance()
    return _assemble(config, folder, [parts[unit.number] for unit in units], workspace)


def curate_batches(config: CurationConfig, batches: Iterable[Batch], workspace: Workspace) -> dict[str, Any]:
    """What `curate_corpus` does with documents that were read and measured before."""
    folder = workspace.scratch / "parts"
    finished_parts(folder)
    judge = Judge(config, cpu_count())
    name = write_part(folder, 0, (judge.judge(pieces, known) for pieces, known in batches), judged_schema())
    return _assemble(config, folder, [name], workspace)


def _assemble(config: CurationConfig, folder: Path, parts: Sequence[str], workspace: Workspace) -> dict[str, Any]:
    files = [folder / name for name in parts]

    def judged(columns: Sequence[str] | None) -> Iterator[pa.Table]:
        return read_tables(files, columns)

    return assemble(config, judged, workspace)

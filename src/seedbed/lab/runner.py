"""Running exhibits: each is an artifact, so what is finished is not measured again and what was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.artifacts import Artifact, Workspace, build_artifact, open_artifact
from ..core.config import build
from ..core.errors import ArtifactError, ConfigError, FormatError
from ..core.files import write_atomically
from ..core.json_files import json_bytes, read_json
from . import catalogue
from .bench import Bench
from .exhibit import Exhibit, Finding, Settings

FINDING = "finding.json"
STAGE = "exhibit"


@dataclass(frozen=True)
class Shown:
    """A finished exhibit, read back from its artifact."""

    name: str
    title: str
    question: str
    claim: str
    formula: str
    source: str
    finding: Finding
    seconds: float


def run_exhibit(name: str, run: Path, out: Path, settings: Mapping[str, Any], advance: Callable[[str], None]) -> Shown:
    """Measure an exhibit on `run` into `out`/NAME, unless it is there for the same settings and the same stages.

    Args:
        settings: keys of the exhibit's settings that are not to have their defaults.

    Raises:
        ConfigError: no such exhibit or setting.
        ArtifactError: a stage that the exhibit reads is not in the run.
    """
    exhibit = catalogue.find(name)
    chosen = build(exhibit.settings, settings, where=name)
    inputs = {stage: open_artifact(run / stage, stage) for stage in exhibit.needs}

    def produce(workspace: Workspace) -> Mapping[str, Any]:
        return _measure(name, exhibit, chosen, run, workspace, advance)

    return read_exhibit(build_artifact(out / name, STAGE, chosen, inputs, produce, changed="restart"))


def missing_stages(name: str, run: Path) -> list[str]:
    """Stages that an exhibit reads and the run has not finished."""
    return [stage for stage in catalogue.find(name).needs if not (run / stage / "manifest.json").exists()]


def read_exhibit(artifact: Artifact) -> Shown:
    """Raises: FormatError: its finding cannot be read."""
    path = artifact.path / FINDING
    values = read_json(path, largest=1 << 24)
    try:
        texts = {key: str(values[key]) for key in ("name", "title", "question", "claim", "formula", "source")}
    except KeyError as error:
        raise FormatError(f"the key {error} is missing", where=path, hint="Run the exhibit again.") from None
    return Shown(**texts, finding=Finding.from_json(values), seconds=artifact.manifest["seconds"])


def finished(out: Path) -> list[Shown]:
    """All exhibits below `out` that are finished, in the catalogue's order."""
    found = []
    for name in catalogue.names():
        try:
            artifact = open_artifact(out / name, STAGE)
        except ArtifactError:
            continue
        found.append(read_exhibit(artifact))
    return found


def settings_of(overrides: Mapping[str, Any], chosen: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`{"kv-cache.lengths": [8]}` as settings by exhibit.

    Raises:
        ConfigError: a key that names none of the chosen exhibits.
    """
    chosen = list(chosen)
    found: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for key, value in overrides.items():
        name, dot, setting = key.partition(".")
        if not dot or name not in found:
            raise ConfigError(
                f"'{key}' sets nothing of the chosen exhibits", hint=f"Write EXHIBIT.KEY=VALUE for one of: {chosen}."
            )
        found[name][setting] = value
    return found


def _measure(
    name: str, exhibit: Exhibit[Any], settings: Settings, run: Path, workspace: Workspace,
    advance: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    finding = exhibit.measure(Bench(run, workspace.scratch, advance), settings)
    about = {
        "name": name, "title": catalogue.title(name), "question": exhibit.question, "claim": exhibit.claim,
        "formula": exhibit.formula, "source": exhibit.source,
    }  # fmt: skip
    write_atomically(workspace.path / FINDING, json_bytes(about | finding.to_json()))
    return {"verdict": finding.verdict}

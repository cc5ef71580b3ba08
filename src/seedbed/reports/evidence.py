"""What a run holds, as the report reads it: manifests, rows of metrics, the ledger. Stages may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.artifacts import Artifact, open_artifact
from ..core.errors import ArtifactError, FormatError
from . import numbers

# In the order of the road. The report is none of them: it cannot measure itself.
STAGES = ("corpus", "tokenizer", "tokens", "forecast", "base", "sft", "reward", "policy", "encoder", "index")
LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Evidence:
    """The finished artifacts of the run at `path`."""

    path: Path

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        found = {}
        for stage in STAGES:
            try:
                found[stage] = open_artifact(self.path / stage, stage)
            except ArtifactError:
                continue
        return found

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return {stage: artifact.metrics for stage, artifact in self.artifacts.items()}

    def rows(self, stage: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The JSON lines of a stage's file, none if it is not there.

        Raises:
            FormatError: a line is no JSON object.
        """
        path = self.path / stage / name
        if not path.exists():
            return []
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise FormatError(
                    "this line is no JSON object", where=f"{path}:{number}", hint="Build the stage again."
                )
            rows.append(row)
        return rows

    @cached_property
    def sources(self) -> list[str]:
        """Names, not paths, of what the run was grown from."""
        try:
            listed = json.loads((self.path / "run.json").read_text(encoding="utf-8"))["sources"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return ["Python’s documentation" if one == "--python-docs" else Path(one).name or str(one) for one in listed]

    def stamp(self, *stages: str) -> str:
        """Seconds and memory of the stages that a section is about."""
        manifests = [self.artifacts[stage].manifest for stage in stages if stage in self.artifacts]
        if not manifests:
            return ""
        seconds = sum(one["seconds"] for one in manifests)
        peak = max(one["peak_memory_bytes"] for one in manifests)
        return f"{numbers.duration(seconds)} · {numbers.memory(peak)}"


def training_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of steps; the others are evaluations."""
    return [row for row in rows if "gradient_norm" in row]


def evaluation_rows(rows: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if "gradient_norm" not in row and name in row]

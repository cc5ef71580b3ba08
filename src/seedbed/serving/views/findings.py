"""The lab's findings as the page shows them, and the exhibits that nobody has run yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.artifacts import open_artifact
from ...core.errors import ArtifactError, ConfigError
from ...lab import catalogue
from ...lab.runner import STAGE, Shown, read_exhibit
from ...reports import numbers
from ...reports.page import Table

LAB = "lab"
# Which exhibits belong together: each group ends where the next one's first exhibit stands in the catalogue.
_GROUPS = {
    "tokenizer-kinds": "Text and tokens",
    "embedding-geometry": "Meaning as vectors",
    "scaled-attention": "Attention and the transformer",
    "quadratic-wall": "Length, caches and generation",
    "pretraining": "Pre-training and scaling",
    "finetuning-ranks": "Fine-tuning",
    "rlhf-stages": "Learning from preferences",
    "sentence-embeddings": "Retrieval and indexes",
}


def findings(run: Path) -> list[dict[str, Any]]:
    """Every exhibit in the catalogue's order: what it asks, and its verdict where it has been run."""
    rows, group = [], ""
    for module in catalogue.TITLES:
        name = module.replace("_", "-")
        group = _GROUPS.get(name, group)
        if name in catalogue.names():
            rows.append(_row(run, name, group))
    return rows


def finding(run: Path, name: str) -> dict[str, Any]:
    """All of one finding: table, charts and sentences.

    Raises:
        ConfigError: there is no such exhibit, or it has not been run.
    """
    if name not in catalogue.names():
        raise ConfigError(f"there is no exhibit '{name:.60}'")
    shown = _finished(run, name)
    if shown is None:
        raise ConfigError("this exhibit has not been run", hint=f"seedbed lab run {name} --run RUN")
    found = shown.finding
    table = Table("", found.columns, found.rows)
    return _about(shown) | {
        "formula": shown.formula,
        "source": shown.source,
        "columns": list(found.columns),
        "rows": table.cells(),
        "quantities": table.numeric(),
        "charts": [{"heading": heading, "spec": spec} for heading, spec in found.charts],
        "caption": found.caption,
    }


def _row(run: Path, name: str, group: str) -> dict[str, Any]:
    shown = _finished(run, name)
    if shown is not None:
        return _about(shown) | {"group": group}
    about = {"name": name, "title": catalogue.title(name), "question": catalogue.find(name).question}
    return about | {"group": group, "verdict": None}


def _about(shown: Shown) -> dict[str, Any]:
    return {
        "name": shown.name,
        "title": shown.title,
        "question": shown.question,
        "claim": shown.claim,
        "verdict": shown.finding.verdict,
        "sentences": list(shown.finding.sentences),
        "seconds": numbers.duration(shown.seconds),
    }


def _finished(run: Path, name: str) -> Shown | None:
    try:
        return read_exhibit(open_artifact(run / LAB / name, STAGE))
    except ArtifactError:
        return None

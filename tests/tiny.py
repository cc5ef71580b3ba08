"""A tiny corpus and a recipe that walks the whole road on it in seconds."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

_MODULES = ("argparse", "calendar", "csv", "datetime", "email.message", "fractions", "json", "logging", "pathlib",
            "random", "statistics", "string", "textwrap", "unittest.case", "zipfile")  # fmt: skip

RECIPE: dict[str, Any] = {
    "threads": 1,
    "tokenizer": {"vocab_size": 400},
    "pretraining": {
        "hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "context_length": 128,
        "training": {"steps": 6, "batch_size": 4, "checkpoint_every": 2, "evaluate_every": 3},
    },
    "forecast": {
        "rungs": [{"hidden_size": size, "layers": 1, "heads": 2} for size in (8, 12, 16, 20)], "steps": [2, 3, 4],
    },
    "finetuning": {
        "full": {"steps": 4, "batch_size": 4, "checkpoint_every": 2},
        "adapter": {"steps": 4, "batch_size": 4, "checkpoint_every": 2, "optimizer": "adamw"},
        "sampled_rows": 4, "held_out_rows": 8, "max_new_tokens": 8,
    },
    "reward": {
        "prompts": 12, "held_out_prompts": 6, "samples": 2, "max_new_tokens": 8, "minimum_gap": 0.0,
        "training": {"steps": 4, "batch_size": 4, "checkpoint_every": 2, "optimizer": "adamw"},
    },
    "ppo": {"iterations": 2, "rollouts": 4, "epochs": 1, "minibatches": 2, "max_new_tokens": 8,
            "evaluation_prompts": 4},
    "encoder": {
        "hidden_size": 16, "heads": 2, "layers": 1, "intermediate_size": 32,
        "training": {"steps": 4, "batch_size": 8, "checkpoint_every": 2, "optimizer": "adamw"},
    },
}  # fmt: skip


def write_documents(folder: Path) -> Path:
    """A few hundred Markdown files: docstrings of some modules that every Python has."""
    folder.mkdir(parents=True)
    for module in _MODULES:
        members = inspect.getmembers(importlib.import_module(module), lambda one: callable(one) or inspect.isclass(one))
        for name, member in members:
            text = inspect.getdoc(member)
            if text and len(text) > 60 and not name.startswith("_"):
                (folder / f"{module}.{name}.md").write_text(f"# {module}.{name}\n\n{text}\n", encoding="utf-8")
    return folder


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on when and how often it was started."""
    return {
        file.relative_to(run).as_posix(): file.read_bytes()
        for file in sorted(run.rglob("*"))
        if file.is_file()
        and file.name not in ("manifest.json", "measurements.jsonl")
        and file.parent.name != "report"
        and file.suffix != ".lock"
    }

"""What a policy is asked: the questions of fine-tuning's rows, or prompts of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..core.errors import DataError
from ..core.randomness import derive_seed
from ..datasets.instructions import question_of
from ..datasets.jsonl import Row, read_rows
from ..datasets.preferences import prompt_of

T = TypeVar("T")


def rows_of(sft: Path, name: str) -> list[Row]:
    """The instruction rows that fine-tuning left beside its model."""
    return read_rows(sft / name, lambda row: row).rows


def questions_of(rows: Sequence[Row]) -> list[str]:
    """The different questions of single-turn rows, in order."""
    questions = list(dict.fromkeys(question for row in rows if (question := question_of(row))))
    if not questions:
        raise DataError("no instruction row is a single question and answer: there is nothing to ask the policy")
    return questions


def drawn(questions: Sequence[T], most: int, generator: np.random.Generator) -> list[T]:
    """Up to `most` of them, in a drawn order."""
    return [questions[int(index)] for index in generator.permutation(len(questions))[:most]]


def split_by_prompt(rows: Sequence[Row], held_out_share: float, seed: int) -> dict[str, list[Row]]:
    """`train` and `validation` rows of different prompts; which side a prompt falls on depends on it and the seed."""
    limit = int(held_out_share * (1 << 63))
    sides: dict[str, list[Row]] = {"train": [], "validation": []}
    for row in rows:
        sides["validation" if derive_seed(seed, "held-out", str(prompt_of(row))) < limit else "train"].append(row)
    return sides

"""What a policy is asked: the questions of fine-tuning's rows, or prompts of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..core.errors import DataError
from ..core.randomness import derive_seed
from ..datasets.instructions import encode_prompt, question_of
from ..datasets.jsonl import Row, read_rows, say_left_out
from ..datasets.preferences import prompt_of
from ..models.huggingface import load_config

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


def that_fit(rows: Sequence[Row], sft: Path, max_new_tokens: int) -> list[Row]:
    """The rows whose prompts leave room for an answer in the context of the model in `sft`; the others are counted
    aloud.

    Raises:
        DataError: none does.
    """
    from ..tokenizers import Tokenizer

    tokenizer, room = Tokenizer.load(sft), load_config(sft).context_length - max_new_tokens
    kept, left_out = [], []
    for row in rows:
        if len(encode_prompt(tokenizer, prompt_of(row))) <= room:
            kept.append(row)
        else:
            reason = f"the prompt leaves no room for an answer of {max_new_tokens} tokens in the context"
            left_out.append((str(row.get("source") or ""), reason))
    say_left_out(left_out)
    if not kept:
        raise DataError(
            f"no prompt leaves room for an answer of {max_new_tokens} tokens in the model's context", where=sft,
            hint="Lower max_new_tokens, or take a model of a longer context.",
        )  # fmt: skip
    return kept


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

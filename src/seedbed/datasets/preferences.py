"""Preference rows `{"prompt", "chosen", "rejected"}`: read from a file with checks, or made by ranking candidates.

A prompt is a user's question, or a list of messages that ends with one. Labelled rows `{"prompt", "completion",
"label"}` say of one answer whether it is good.

B pairs, T tokens.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
import torch

from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from .instructions import Turns, checked_messages, encode_prompt, from_sharegpt
from .jsonl import Row, Rows, read_rows

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


BatchT = TypeVar("BatchT")

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Candidate:
    """One answer to a prompt and what it is worth."""

    text: str
    ended: bool  # by itself, not cut off at a length
    score: float


def read_preferences(path: str | Path) -> Rows:
    """Rows of a user's JSONL; unusable ones (empty chosen, chosen equal to rejected) are in `.rejected`.

    Prompts are texts, lists of messages, ShareGPT's "conversations", or what "chosen" and "rejected" have in common
    where these are whole conversations. `chosen_ended` and `rejected_ended` (true if left out) say whether an answer
    ended by itself or was cut off; `margin` (0 if left out) by how much a reward model's scores are to differ.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return read_rows(path, parse_preference, say_where=True)


def read_labelled(path: str | Path) -> Rows:
    """Rows `{"prompt", "completion", "label"}`, or `{"messages", "label"}` whose last message is the answer.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return read_rows(path, parse_labelled, say_where=True)


def parse_preference(row: Row) -> Row:
    """A checked preference row.

    Raises:
        ValueError: what is wrong with it.
    """
    row = _without_common_turns(row)
    prompt = parse_prompt(row)
    sides = {side: _answer(row, side) for side in ("chosen", "rejected")}
    if not sides["chosen"].strip():
        raise ValueError("empty chosen")
    ended = {f"{side}_ended": row.get(f"{side}_ended", True) for side in sides}
    if not all(isinstance(value, bool) for value in ended.values()):
        raise ValueError("'chosen_ended' and 'rejected_ended' are true or false")
    if sides["chosen"] == sides["rejected"] and ended["chosen_ended"] == ended["rejected_ended"]:
        raise ValueError("chosen equals rejected")
    margin = row.get("margin")
    if margin is not None and (type(margin) not in (int, float) or not math.isfinite(margin)):
        raise ValueError("'margin' is not a finite number")
    return {"prompt": prompt, **sides, **ended} | ({} if margin is None else {"margin": float(margin)})


def parse_labelled(row: Row) -> Row:
    """A checked labelled row.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(row.get("label"), bool):
        raise ValueError("'label' is not true or false")
    if "messages" in row and "completion" not in row:
        *turns, last = checked_messages(row["messages"])
        if last["role"] != "assistant":
            raise ValueError("the last message is not the assistant's")
        row = {**row, "prompt": turns, "completion": last["content"]}
    completion = _answer(row, "completion")
    if not completion.strip():
        raise ValueError("empty completion")
    return {"prompt": parse_prompt(row), "completion": completion, "label": row["label"]}


def prompt_of(row: Row) -> str | Turns:
    """A row's prompt as `encode_prompt` takes it: a text, or hashable turns."""
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else tuple((one["role"], one["content"]) for one in prompt)


def parse_prompt(row: Row) -> str | list[dict[str, str]]:
    """A row's prompt, checked: a text where there is one user turn alone, else messages.

    Raises:
        ValueError: what is wrong with it.
    """
    prompt = row.get("prompt", row.get("conversations"))
    if not isinstance(prompt, str):
        if not isinstance(prompt, list):
            raise ValueError("'prompt' is missing or not text")
        messages = checked_messages([from_sharegpt(one) for one in prompt])
        if messages[-1]["role"] != "user":
            raise ValueError("the prompt does not end with the user's turn")
        if len(messages) > 1:
            return messages
        prompt = messages[0]["content"]
    if not prompt.strip():
        raise ValueError("empty prompt")
    return prompt


def _answer(row: Row, side: str) -> str:
    answer: Any = row.get(side)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, dict):
        answer = from_sharegpt(answer).get("content")
    if not isinstance(answer, str):
        raise ValueError(f"'{side}' is missing or not text")
    return answer


def _without_common_turns(row: Row) -> Row:
    """Two whole conversations that differ in their last message, as a prompt and two answers."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if "prompt" in row or "conversations" in row or not (isinstance(chosen, list) and isinstance(rejected, list)):
        return row
    if not len(chosen) == len(rejected) > 1:
        return row
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("'chosen' and 'rejected' answer different prompts")
    return {**row, "prompt": chosen[:-1], "chosen": chosen[-1], "rejected": rejected[-1]}


def rank_candidates(
    prompt: str,
    candidates: Sequence[Candidate],
    generator: np.random.Generator,
    *,
    pairs: int = 2,
    minimum_gap: float = 0.05,
    label_noise: float = 0.0,
) -> list[Row]:
    """Up to `pairs` preference rows for one prompt, drawn from all pairs whose scores differ by `minimum_gap`.

    No two rows of a prompt hold the same two texts; a candidate that is empty is never chosen. With `label_noise` each
    pair is wrong with that probability, as people's are: the worse answer is then the chosen one, unless it is empty.
    """
    unique = list({(one.text, one.ended): one for one in candidates}.values())
    possible = [
        (better, worse)
        for better in unique
        for worse in unique
        if better.text.strip() and better.score - worse.score >= max(minimum_gap, 1e-9)
    ]
    picked = [possible[int(index)] for index in sorted(generator.permutation(len(possible))[:pairs])]
    if label_noise:
        wrong = generator.random(len(picked)) < label_noise
        picked = [
            (worse, better) if flip and worse.text.strip() else (better, worse)
            for (better, worse), flip in zip(picked, wrong, strict=True)
        ]
    return [
        {
            "prompt": prompt, "chosen": better.text, "rejected": worse.text,
            "chosen_ended": better.ended, "rejected_ended": worse.ended,
            "chosen_score": better.score, "rejected_score": worse.score,
        }
        for better, worse in picked
    ]  # fmt: skip


@dataclass(frozen=True)
class EncodedPreferences:
    """Token ids of prompts and of two answers to each, Ragged over pairs; pairs beyond the context are counted.

    Of labelled answers `chosen` is the answer, whatever its label, and `rejected` the answer to another prompt.
    """

    prompts: Ragged
    chosen: Ragged
    rejected: Ragged
    too_long: int
    left_out: tuple[tuple[str, str], ...] = ()  # where each of those pairs is from, and why
    desirable: np.ndarray | None = None  # bool (pairs,): the labels of labelled answers
    margins: np.ndarray | None = None  # float32 (pairs,): by how much the chosen answers are better

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: np.ndarray) -> EncodedPreferences:
        """These pairs alone."""
        prompts, chosen, rejected = (
            Ragged.from_rows([one[int(row)] for row in rows]) for one in (self.prompts, self.chosen, self.rejected)
        )
        desirable, margins = (None if one is None else one[rows] for one in (self.desirable, self.margins))
        return EncodedPreferences(prompts, chosen, rejected, self.too_long, self.left_out, desirable, margins)

    def sequence(self, side: str, row: int) -> np.ndarray:
        """Prompt and answer of one side, as one sequence."""
        return np.concatenate([self.prompts[row], getattr(self, side)[row]])


def encode_preferences(
    rows: Sequence[Row], tokenizer: Tokenizer, context_length: int, end_id: int
) -> EncodedPreferences:
    """Encode by the chat template; an answer that ended by itself closes with `end_id`.

    Raises:
        DataError: no pair is left.
    """
    chosen, rejected = (
        [_encode_answer(tokenizer, row[side], end_id if row[f"{side}_ended"] else None) for row in rows]
        for side in _SIDES
    )
    return _encoded(list(zip(rows, chosen, rejected, strict=True)), tokenizer, context_length)


def encode_labelled(rows: Sequence[Row], tokenizer: Tokenizer, context_length: int, end_id: int) -> EncodedPreferences:
    """Encode labelled answers by the chat template, each beside the answer to the next other prompt.

    Raises:
        DataError: no answer is left.
    """
    answers = [_encode_answer(tokenizer, row["completion"], end_id) for row in rows]
    others = [answers[row] for row in _next_other(rows)]
    return _encoded(list(zip(rows, answers, others, strict=True)), tokenizer, context_length)


def _next_other(rows: Sequence[Row]) -> list[int]:
    """Of each row the next one, in a circle, that has another prompt."""
    prompts = [prompt_of(row) for row in rows] * 2
    following = [len(prompts) - 1] * len(prompts)
    for row in reversed(range(len(prompts) - 1)):
        following[row] = row + 1 if prompts[row + 1] != prompts[row] else following[row + 1]
    return [row % len(rows) for row in following[: len(rows)]]


def _encode_answer(tokenizer: Tokenizer, text: str, end_id: int | None) -> np.ndarray:
    return np.concatenate([tokenizer.encode(text, parse_special=False), [] if end_id is None else [end_id]])


def _encoded(
    pairs: Sequence[tuple[Row, np.ndarray, np.ndarray]], tokenizer: Tokenizer, context_length: int
) -> EncodedPreferences:
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    labels: list[bool] = []
    margins: list[float] = []
    left_out: list[tuple[str, str]] = []
    for row, chosen, rejected in pairs:
        prompt = encode_prompt(tokenizer, prompt_of(row))
        if len(prompt) + max(len(chosen), len(rejected)) <= context_length:
            for column, ids in zip(columns, (prompt, chosen, rejected), strict=True):
                column.append(ids)
            labels.append(row.get("label", True))
            margins.append(row.get("margin", 0.0))
        else:
            left_out.append((str(row.get("source") or ""), f"longer than {context_length} tokens"))
    too_long = len(left_out)
    if not labels:
        raise DataError(
            f"no preference pair can be trained on: {too_long} are longer than the context of {context_length} tokens"
        )
    prompts, chosen_rows, rejected_rows = (Ragged.from_rows(column) for column in columns)
    desirable = np.array(labels) if "label" in pairs[0][0] else None
    return EncodedPreferences(
        prompts, chosen_rows, rejected_rows, too_long, tuple(left_out), desirable, np.array(margins, np.float32)
    )


@dataclass(frozen=True)
class PairBatch:
    """Right-padded ids of the chosen and the rejected answers, row by row a pair."""

    chosen_BT: torch.Tensor  # int64
    rejected_BT: torch.Tensor  # int64
    margins_B: torch.Tensor  # float32: by how much the chosen score is to be ahead

    def split(self, parts: int) -> list[PairBatch]:
        pieces = (one.chunk(parts) for one in (self.chosen_BT, self.rejected_BT, self.margins_B))
        return [PairBatch(*piece) for piece in zip(*pieces, strict=True)]

    def to(self, device: torch.device | str) -> PairBatch:
        return PairBatch(*(one.to(device) for one in (self.chosen_BT, self.rejected_BT, self.margins_B)))


class ShuffledPairs(ABC, Generic[BatchT]):
    """Endless batches of pairs, each epoch in an order drawn from (seed, epoch); resumed by one integer."""

    def __init__(self, pairs: EncodedPreferences, batch_size: int, pad_id: int, seed: int = 0) -> None:
        self._pairs, self._batch_size, self._pad_id, self._seed = pairs, batch_size, pad_id, seed
        self._drawn = 0
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self._pairs) // self._batch_size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BatchT:
        epoch, place = divmod(self._drawn, self.batches_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, numpy_generator(self._seed, "preferences", epoch).permutation(len(self._pairs)))
        self._drawn += 1
        return self._collate(self._order[1][place * self._batch_size : (place + 1) * self._batch_size])

    def once(self) -> Iterator[BatchT]:
        """Every pair once, in order. The state is not touched."""
        rows = np.arange(len(self._pairs))
        return (
            self._collate(rows[start : start + self._batch_size]) for start in range(0, len(rows), self._batch_size)
        )

    @abstractmethod
    def _collate(self, rows: np.ndarray) -> BatchT:
        """The batch of these pairs."""

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])


class PreferenceBatches(ShuffledPairs[PairBatch]):
    """Batches for a reward model: both sides as whole sequences."""

    def _collate(self, rows: np.ndarray) -> PairBatch:
        sides = [[self._pairs.sequence(side, int(row)) for row in rows] for side in _SIDES]
        width = max(len(ids) for side in sides for ids in side)
        margins = np.zeros(len(rows), np.float32) if self._pairs.margins is None else self._pairs.margins[rows]
        chosen, rejected = (pad_right(side, self._pad_id, width) for side in sides)
        return PairBatch(chosen, rejected, torch.from_numpy(margins))


def pad_right(rows: Sequence[np.ndarray], pad_id: int, width: int | None = None) -> torch.Tensor:
    """Rows of ids as one int64 tensor (rows, width), filled up with `pad_id`; the longest row's width by default."""
    padded = np.full((len(rows), width or max(map(len, rows))), pad_id, np.int64)
    for place, ids in enumerate(rows):
        padded[place, : len(ids)] = ids
    return torch.from_numpy(padded)

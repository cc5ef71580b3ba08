"""Bits per byte: what a model pays for held-out text, comparable across tokenizers and with n-grams.

bits per byte = nats of the text's tokens / ln 2 / UTF-8 bytes of the text. A document's `<|endoftext|>` is no text: its
cost is left out (and told apart), as in other published figures; it is part of `loss`, the mean over all tokens, which
is what training minimises. Every token is scored exactly once, with the stream before it as context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..core.errors import DataError
from ..datasets.shards import TokenShards
from ..training.objectives import token_nats


@dataclass(frozen=True)
class Likelihood:
    """Cost of the documents of a split."""

    text_nats: float
    end_nats: float  # of the `<|endoftext|>` after each document
    tokens: int  # with the ends
    documents: int
    text_bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.text_nats / math.log(2) / self.text_bytes

    @property
    def loss(self) -> float:
        """Nats per token, ends included."""
        return (self.text_nats + self.end_nats) / self.tokens

    def metrics(self) -> dict[str, float]:
        """For manifests: `loss` in nats per token and `bits_per_byte`."""
        return {"loss": self.loss, "bits_per_byte": self.bits_per_byte}


def scored_tokens(shards: TokenShards, max_tokens: int | None = None) -> np.ndarray:
    """The tokens that are scored: whole documents from the first on, at least one.

    Raises:
        DataError: the split holds no text.
    """
    if shards.text_bytes == 0:
        raise DataError("there is no text to evaluate on", where=shards.path, hint="Use more text.")
    if max_tokens is None or max_tokens >= len(shards):
        return shards.tokens
    documents = max(int(np.searchsorted(shards.document_offsets, max_tokens, "right")) - 1, 1)
    return shards.tokens[: shards.document_offsets[documents]]


def account(nats: np.ndarray, shards: TokenShards) -> Likelihood:
    """Sum the nats of the first `len(nats)` tokens, which are whole documents."""
    documents = int(np.searchsorted(shards.document_offsets, len(nats)))
    if shards.document_offsets[documents] != len(nats):
        raise ValueError("the scored tokens are not whole documents")
    ends = np.zeros(len(nats), bool)
    ends[shards.document_offsets[1 : documents + 1] - 1] = True
    return Likelihood(
        float(nats[~ends].sum(dtype=np.float64)), float(nats[ends].sum(dtype=np.float64)), len(nats), documents,
        int(shards.text_offsets[documents]),
    )  # fmt: skip


def likelihood(
    model: nn.Module,
    shards: TokenShards,
    context_length: int,
    *,
    batch_size: int = 16,
    stride: int | None = None,
    max_tokens: int | None = None,
) -> Likelihood:
    """Score a decoder on a split.

    Windows of `context_length` tokens begin every `stride` tokens, and each scores the tokens that no window before it
    scored. With `stride` = `context_length` (the default) windows do not overlap and each token is computed once; half
    of it costs twice as much and gives every token but the first ones at least half a window of context. The stream
    begins with an `<|endoftext|>` that is not scored.
    """
    tokens = np.asarray(scored_tokens(shards, max_tokens), np.int64)
    stride = stride or context_length
    if not 1 <= stride <= context_length:
        raise ValueError(f"stride {stride} is not between 1 and {context_length}")
    device = next(model.parameters()).device
    nats = np.zeros(len(tokens), np.float64)
    was_training = model.training
    model.eval()
    for starts in _batches(len(tokens), context_length, stride, batch_size):
        ids, targets = _windows(tokens, starts, context_length, shards.end_of_text_id)
        found = token_nats(model, ids.to(device), targets.to(device)).cpu().numpy()
        for row, start in enumerate(starts):
            first = 0 if start == 0 else context_length - stride
            stop = min(context_length, len(tokens) - start)
            nats[start + first : start + stop] = found[row, first:stop]
    model.train(was_training)
    return account(nats, shards)


def bits_per_byte(
    model: nn.Module,
    shards: TokenShards,
    context_length: int,
    *,
    batch_size: int = 16,
    stride: int | None = None,
    max_tokens: int | None = None,
) -> float:
    """`likelihood(...)` as one number."""
    return likelihood(
        model, shards, context_length, batch_size=batch_size, stride=stride, max_tokens=max_tokens
    ).bits_per_byte


def _batches(count: int, length: int, stride: int, batch_size: int) -> Iterator[list[int]]:
    starts = [0, *range(stride, max(count - (length - stride), stride), stride)] if count > length else [0]
    return (starts[at : at + batch_size] for at in range(0, len(starts), batch_size))


def _windows(tokens: np.ndarray, starts: list[int], length: int, end_of_text: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, targets) of the windows, int64, padded on the right."""
    ids = np.full((len(starts), length), end_of_text, np.int64)
    targets = ids.copy()
    for row, start in enumerate(starts):
        window = tokens[start : start + length]
        targets[row, : len(window)] = window
        ids[row, 1 : len(window)] = window[:-1]
        if start:
            ids[row, 0] = tokens[start - 1]
    return torch.from_numpy(ids), torch.from_numpy(targets)

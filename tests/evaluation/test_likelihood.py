"""Every token is scored once, whatever the windows; the accounting is exact."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seedbed.core.errors import DataError
from seedbed.core.ragged import Ragged
from seedbed.datasets.shards import TokenShards, write_token_shards
from seedbed.evaluation.likelihood import bits_per_byte, likelihood


class _Tokenizer:
    fingerprint, vocab_size = "t", 20

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.frombuffer(text.encode(), np.uint8) % 19 + 1 for text in texts])


class _Bigram(nn.Module):
    """Logits that depend on the last token alone: windows cannot change them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.table[ids_BT]


class _Length(nn.Module):
    """The more context, the surer: shows the context that each token had."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        ages = torch.arange(ids_BT.shape[1], dtype=torch.float32)
        return (ages[None, :, None] * torch.eye(20)[ids_BT]) * self.scale * 0


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    random = np.random.default_rng(0)
    texts = ["".join(chr(97 + c) for c in random.integers(0, 20, length)) for length in (30, 1, 64, 7, 100)]
    return write_token_shards([*texts, "ä"], _Tokenizer(), tmp_path)


@pytest.mark.parametrize(("length", "stride"), [(8, None), (8, 4), (8, 1), (64, 32), (500, None), (5, 3), (211, 100)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_do_not_matter_to_a_bigram(
    shards: TokenShards, length: int, stride: int | None, batch_size: int
) -> None:
    model = _Bigram()
    inputs = np.concatenate([[0], shards.tokens[:-1].astype(np.int64)])
    table = model.table.detach().log_softmax(-1).numpy().astype(np.float64)
    nats = -table[inputs, shards.tokens]
    found = likelihood(model, shards, length, stride=stride, batch_size=batch_size)
    ends = shards.tokens == 0
    assert found.tokens == len(shards)
    assert found.text_nats == pytest.approx(nats[~ends].sum(), rel=1e-6)
    assert found.end_nats == pytest.approx(nats[ends].sum(), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(nats[~ends].sum() / math.log(2) / shards.text_bytes, rel=1e-6)
    assert found.loss == pytest.approx(nats.mean(), rel=1e-6)


def test_a_uniform_model_pays_the_logarithm_of_the_vocabulary(shards: TokenShards) -> None:
    # "ä" is two bytes of text and two tokens; every other character is one of each.
    assert bits_per_byte(_Length(), shards, 16) == pytest.approx(math.log2(20))


def test_max_tokens_scores_whole_documents(shards: TokenShards) -> None:
    found = likelihood(_Bigram(), shards, 16, max_tokens=40)
    assert (found.tokens, found.documents, found.text_bytes) == (33, 2, 31)
    assert likelihood(_Bigram(), shards, 16, max_tokens=1).documents == 1


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text to evaluate"):
        likelihood(_Bigram(), write_token_shards([], _Tokenizer(), tmp_path), 8)

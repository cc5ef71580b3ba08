"""Every epoch visits everything once, whatever is saved and resumed between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import DataError, FormatError
from seedbed.core.ragged import Ragged
from seedbed.datasets.loader import PackedBatches, PaddedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards


class _Counting:
    """One token per document, numbered, so that a window tells where it is from."""

    fingerprint, vocab_size = "c", 60_000

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.array(text.split(), np.uint32) for text in texts])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    text = " ".join(str(number) for number in range(1, 1000))
    return write_token_shards([text], _Counting(), tmp_path_factory.mktemp("shards"))


def test_packed_windows_and_targets(shards: TokenShards) -> None:
    batches = PackedBatches(shards, batch_size=5, context_length=9, seed=3)
    windows = 999 // 9
    assert batches.tokens_per_epoch == windows * 9
    seen = []
    for _ in range(3 * windows):
        batch = next(batches)
        assert torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
        assert batch.weights_BT.shape == (5, 9)
        seen += batch.ids_BT[:, 0].tolist()
    epochs = [seen[start : start + windows] for start in range(0, len(seen), windows)]
    assert all(sorted(epoch) == list(range(1, 1 + 9 * windows, 9)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@settings(max_examples=20, deadline=None)
@given(before=st.integers(0, 60), seed=st.integers(0, 5), limit=st.sampled_from([None, 200, 450]))
def test_packed_resumes_exactly(shards: TokenShards, before: int, seed: int, limit: int | None) -> None:
    def make() -> PackedBatches:
        return PackedBatches(shards, 4, 16, seed, limit_tokens=limit)

    one, two = make(), make()
    for _ in range(before):
        next(one)
    two.load_state_dict(one.state_dict())
    for _ in range(20):
        assert torch.equal(next(one).ids_BT, next(two).ids_BT)


def test_smaller_limits_see_a_part_of_larger_ones(shards: TokenShards) -> None:
    def starts(limit: int | None) -> set[int]:
        batches = PackedBatches(shards, 1, 10, 0, limit_tokens=limit)
        return {int(next(batches).ids_BT[0, 0]) for _ in range(batches.tokens_per_epoch // 10)}

    assert starts(100) < starts(300) < starts(None)
    assert len(starts(100)) == 10


def test_too_little_text_and_foreign_tokens(shards: TokenShards, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few for one batch of 8"):
        PackedBatches(shards, 8, 256)
    with pytest.raises(DataError, match=r"limited to 20"):
        PackedBatches(shards, 1, 64, limit_tokens=20)
    tokenizer = _Counting()
    tokenizer.vocab_size = 100
    with pytest.raises(FormatError, match="in a vocabulary of 100"):
        next(PackedBatches(write_token_shards(["200 300 400"], tokenizer, tmp_path), 1, 2))


def _padded(**options: Any) -> PaddedBatches:
    random = np.random.default_rng(0)
    rows = [np.full(length, index + 2, np.uint32) for index, length in enumerate(random.integers(2, 33, 101))]
    weights = [np.r_[np.zeros(1), np.ones(len(row) - 1)] for row in rows]
    return PaddedBatches(
        Ragged.from_rows(rows), Ragged.from_rows(weights, np.float32), 8, 32, pad_id=1, seed=1, **options
    )


def test_padded_visits_each_example_once_and_pads_little() -> None:
    batches = _padded()
    positions, real = 0, 0
    for epoch in range(2):
        seen: list[int] = []
        for _ in range(batches.batches_per_epoch):
            batch = next(batches)
            assert bool(((batch.ids_BT == 1) | (batch.weights_BT > 0)).all())
            assert bool((batch.targets_BT[batch.weights_BT > 0] > 1).all())
            assert batch.ids_BT.shape[1] % 8 == 0
            positions, real = positions + batch.ids_BT.numel(), real + int(batch.weights_BT.sum())
            seen += batch.ids_BT[:, 0].tolist()
        assert sorted(seen) == list(range(2, 103)), epoch
    assert real / positions > 0.75
    assert sorted(i for batch in batches.once() for i in batch.ids_BT[:, 0].tolist()) == list(range(2, 103))


@pytest.mark.parametrize("before", [0, 1, 12, 13, 14, 30])
def test_padded_resumes_exactly(before: int) -> None:
    one, two = _padded(), _padded()
    for _ in range(before):
        next(one)
    list(one.once())
    two.load_state_dict(one.state_dict())
    for _ in range(30):
        assert torch.equal(next(one).ids_BT, next(two).ids_BT)


def test_padded_refuses_what_it_cannot_use() -> None:
    def make(*lengths: int) -> PaddedBatches:
        rows = Ragged.from_rows([np.ones(length, np.uint32) for length in lengths])
        return PaddedBatches(rows, Ragged(rows.values.astype(np.float32), rows.offsets), 2, 8, pad_id=0)

    with pytest.raises(DataError, match="no examples"):
        make()
    with pytest.raises(DataError, match="example 1 has 10 tokens"):
        make(3, 10)
    with pytest.raises(DataError, match="example 0 has 1 tokens"):
        make(1, 3)

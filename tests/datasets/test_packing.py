"""Documents packed whole: all of them, once an epoch, next to no padding, resumed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import DataError
from seedbed.core.ragged import Ragged
from seedbed.datasets.packing import PackedDocuments, pack


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_document_has_its_place(lengths: list[int]) -> None:
    sizes = np.array(lengths)
    rows = pack(sizes, 32)
    assert sorted(one for row in rows for one in row) == np.flatnonzero(sizes <= 32).tolist()
    assert all(sizes[row].sum() <= 32 for row in rows)
    assert sum(sizes[row].sum() <= 16 for row in rows) <= 1  # two rows half empty would be one


def _documents() -> Ragged:
    random = np.random.default_rng(0)
    return Ragged.from_rows(
        [np.full(length, 10 + row, np.uint32) for row, length in enumerate(random.integers(1, 31, 90))]
    )


def test_epochs_and_little_padding() -> None:
    ids = _documents()
    batches = PackedDocuments(ids, 8, 64, pad_id=1, seed=2, group=45)
    for epoch in range(2):
        seen: list[int] = []
        real = total = 0
        while batches.epoch == epoch:
            batch = next(batches)
            assert batch.documents_BT is not None
            real, total = real + int((batch.ids_BT != 1).sum()), total + batch.ids_BT.numel()
            assert torch.equal(batch.targets_BT[batch.weights_BT > 0], batch.ids_BT[batch.weights_BT > 0])
            for tokens, documents in zip(batch.ids_BT, batch.documents_BT, strict=True):
                for number in documents.unique():
                    (token,) = tokens[documents == number].unique().tolist()
                    if token != 1:
                        seen.append(token - 10)
                        assert int((tokens == token).sum()) == len(ids[token - 10])
        assert sorted(seen) == list(range(90))
        assert real / total > 0.9


@pytest.mark.parametrize("before", [0, 3, 14, 30])
def test_resumes_exactly(before: int) -> None:
    one, two = (PackedDocuments(_documents(), 4, 64, pad_id=1) for _ in range(2))
    for _ in range(before):
        next(one)
    two.load_state_dict(one.state_dict())
    for _ in range(20):
        assert torch.equal(next(one).ids_BT, next(two).ids_BT)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match="document 0 has 9 tokens"):
        PackedDocuments(Ragged.from_rows([np.ones(9, np.uint32)]), 1, 8, 0)
    with pytest.raises(DataError, match="no documents"):
        PackedDocuments(Ragged.from_rows([]), 1, 8, 0)

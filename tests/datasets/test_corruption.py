"""What is masked, dropped and mixed: in the published proportions, and exactly resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError
from seedbed.core.ragged import Ragged
from seedbed.core.randomness import numpy_generator
from seedbed.datasets.corruption import Corrupted, CorruptSpans, GivePrefix, MaskTokens, word_starts
from seedbed.datasets.loader import Batch, PackedBatches
from seedbed.datasets.mixtures import MixedBatches
from seedbed.datasets.shards import TokenShards, write_token_shards


class _Tokenizer:
    fingerprint, vocab_size = "c", 600

    def token_to_id(self, token: str) -> int:
        return 0

    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged:
        return Ragged.from_rows([np.array(text.split(), np.uint32) for text in texts])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    numbers = np.random.default_rng(0).integers(1, 600, 3000)
    texts = [" ".join(map(str, part)) for part in np.array_split(numbers, 150)]
    return write_token_shards(texts, _Tokenizer(), tmp_path_factory.mktemp("shards"))


def _batch(rows: int, length: int, vocabulary: int = 1000) -> Batch:
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, vocabulary, (rows, length)))
    return Batch(ids, ids, torch.ones(rows, length))


def test_masked_tokens_in_berts_proportions() -> None:
    batch = _batch(200, 100)
    found = MaskTokens(5, 1000, special_ids=(0, 7))(batch, numpy_generator(0, "m"))
    chosen = found.weights_BT.bool()
    ordinary = (batch.ids_BT != 0) & (batch.ids_BT != 7) & (batch.ids_BT != 5)
    assert not bool((chosen & ~ordinary).any())
    assert torch.equal(chosen.sum(1), (0.15 * ordinary.sum(1)).round().long())
    assert torch.equal(found.targets_BT, batch.ids_BT)
    assert torch.equal(found.ids_BT[~chosen], batch.ids_BT[~chosen])
    seen, told = found.ids_BT[chosen], batch.ids_BT[chosen]
    assert float((seen == 5).float().mean()) == pytest.approx(0.8, abs=0.025)
    assert float((seen == told).float().mean()) == pytest.approx(0.1, abs=0.02)
    drawn = seen[(seen != 5) & (seen != told)]
    assert not bool(((drawn == 0) | (drawn == 7)).any())
    assert len(drawn.unique()) > 150


def test_whole_words_are_masked_whole() -> None:
    starts = np.arange(1000) % 3 == 0  # two of three tokens go on with a word
    batch = _batch(50, 120)
    found = MaskTokens(5, 1000, special_ids=(0,), word_starts=starts)(batch, numpy_generator(0, "m"))
    shares = []
    for ids, chosen in zip(batch.ids_BT.numpy(), found.weights_BT.numpy() > 0, strict=True):
        goes_on = ~starts[ids] & ~np.isin(ids, [0, 5])
        goes_on[1:] &= ~np.isin(ids[:-1], [0, 5])
        goes_on[0] = False
        assert bool(np.all(chosen[1:][goes_on[1:]] == chosen[:-1][goes_on[1:]]))
        shares.append(chosen.mean())
    assert 0.14 < np.mean(shares) < 0.2


def test_where_words_start() -> None:
    assert word_starts(["[MASK]", "the", "##re"]).tolist() == [True, True, False]
    assert word_starts(["<|end|>", "Ġthe", "re", ".", "Ċ", "7"]).tolist() == [True, True, False, True, True, False]


@given(length=st.integers(2, 300), seed=st.integers(0, 5), density=st.sampled_from([0.15, 0.5]))
@settings(max_examples=60, deadline=None)
def test_spans_can_be_filled_in_again(length: int, seed: int, density: float) -> None:
    ids = np.arange(length) + 1
    source, target = CorruptSpans(999, start_id=0, end_id=998, density=density).row(ids, numpy_generator(seed, "s"))
    sentinels = target[target > 900][:-1]
    assert sentinels.tolist() == list(range(999, 999 - len(sentinels), -1))
    assert source[-1] == target[-1] == 998
    pieces = np.split(target[:-1], np.flatnonzero(target[:-1] > 900)[1:])
    filled: list[int] = []
    for token in source[:-1]:
        filled += pieces[999 - token][1:].tolist() if token > 900 else [int(token)]
    assert filled == ids.tolist()
    dropped = min(max(round(length * density), 1), length - 1)
    assert len(target) - 1 - len(sentinels) == dropped  # T5's count
    assert len(sentinels) == min(max(round(dropped / 3), 1), length - dropped)


def test_batches_of_spans_have_no_padding_and_start_right() -> None:
    batch = CorruptSpans(999, start_id=3, end_id=998)(_batch(4, 100, 900), numpy_generator(0, "s"))
    assert batch.source_BS.shape == (4, 100 - 15 + 5 + 1)
    assert batch.ids_BT[:, 0].tolist() == [3] * 4
    assert torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    halves = batch.split(2)
    assert torch.equal(torch.cat([half.source_BS for half in halves]), batch.source_BS)


def _same(one: Any, other: Any) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["mask", "spans", "prefix", "mixture"])
def test_resumes_exactly(shards: TokenShards, kind: str) -> None:
    def make() -> Any:
        if kind == "mixture":
            sources = {name: PackedBatches(shards, 1, 16, seed, document_masks=True) for seed, name in enumerate("ab")}
            return MixedBatches(sources, [(0, {"a": 1, "b": 0}), (30, {"a": 1, "b": 3})], 4)
        corruption: Any = {
            "mask": MaskTokens(1, 600, (0,)), "spans": CorruptSpans(700, 0, 0), "prefix": GivePrefix()
        }[kind]  # fmt: skip
        return Corrupted(PackedBatches(shards, 4, 16), corruption, seed=3)

    one, two = make(), make()
    for _ in range(7):
        next(one)
    two.load_state_dict(one.state_dict())
    assert all(_same(next(one), next(two)) for _ in range(20))
    fresh = make()
    assert not _same(next(fresh), next(fresh))


def test_shares_hold_at_every_moment_and_change_with_the_curriculum(shards: TokenShards) -> None:
    def source(seed: int) -> PackedBatches:
        return PackedBatches(shards, 1, 16, seed)

    mixture = MixedBatches({"a": source(0), "b": source(1), "c": source(2)}, {"a": 5, "b": 3, "c": 2}, 1)
    for row in range(1, 200):
        next(mixture)
        assert all(abs(mixture.drawn[name] - row * share) <= 1 for name, share in mixture.share_at(row).items())
    rising = MixedBatches({"a": source(0), "b": source(1)}, [(0, {"a": 1, "b": 0}), (100, {"a": 0, "b": 1})], 10)
    assert rising.share_at(50) == {"a": 0.5, "b": 0.5}
    counts = []
    for _ in range(12):
        next(rising)
        counts.append(rising.drawn["b"])
    assert counts[0] <= 1
    assert counts[9] == pytest.approx(50, abs=2)
    assert counts[11] - counts[9] == 20


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"a": 1}, "differ in: b"), ({"a": -1, "b": 2}, "negative"), ({"a": 0, "b": 0}, "all zero"), ([(5, {})], "row 0")],
)
def test_bad_weights_are_named(shards: TokenShards, weights: Any, message: str) -> None:
    sources = {name: PackedBatches(shards, 1, 16) for name in "ab"}
    with pytest.raises(ConfigError, match=message):
        MixedBatches(sources, weights, 4)


def test_documents_are_told_apart(shards: TokenShards) -> None:
    batch = next(PackedBatches(shards, 8, 64, document_masks=True))
    assert batch.documents_BT is not None
    for ids, documents, weights in zip(batch.ids_BT, batch.documents_BT, batch.weights_BT, strict=True):
        ends = (ids == 0).nonzero()[:, 0].tolist()
        assert documents.tolist() == [sum(end < place for end in ends) for place in range(64)]
        assert (weights == 0).nonzero()[:, 0].tolist() == ends
    assert next(PackedBatches(shards, 8, 64)).documents_BT is None


def test_what_cannot_be_is_refused(shards: TokenShards, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocabulary of 600, the model knows 500"):
        PackedBatches(shards, 4, 16, vocab_size=500)
    with pytest.raises(ConfigError, match="need 50 sentinels; there are 10"):
        CorruptSpans(999, 0, 1, sentinels=10)(_batch(1, 1000), numpy_generator(0, "s"))
    with pytest.raises(ConfigError, match="prefix reaches over documents"):
        next(Corrupted(PackedBatches(shards, 4, 16, document_masks=True), GivePrefix()))
    with pytest.raises(ConfigError, match="share of masked tokens"):
        MaskTokens(1, 10, share=1.5)

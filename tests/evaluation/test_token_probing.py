"""Under-trained ids of models that are trained here, on text in which certain ids never occur."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import write_token_shards
from seedbed.evaluation.token_probing import token_prober
from seedbed.models import Decoder, ModelConfig
from seedbed.tokenizers import Tokenizer, train_bpe
from seedbed.tokenizers.audit import glitch_tokens
from seedbed.tokenizers.glitches import auroc, measure, verdict
from seedbed.training import NextToken, Trainer, TrainerConfig

_FREQUENT = 10


@pytest.fixture(scope="module")
def text(shared_data: Callable[[str], Path]) -> list[str]:
    return shared_data("text/tinyshakespeare.txt").read_text()[:300_000].split("\n\n")


@pytest.fixture(scope="module")
def tokenizer(text: list[str]) -> Tokenizer:
    """Of a vocabulary that is made of more than the models will see."""
    unseen = [" ".join(word[::-1] for word in passage.split()) for passage in text[:300]]
    return train_bpe([*text, *unseen], 1200, "gpt2")


@pytest.fixture(scope="module")
def trained(
    text: list[str], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], tuple[Decoder, np.ndarray]]:
    folder = tmp_path_factory.mktemp("probing")
    shards = write_token_shards(text, tokenizer, folder / "shards")
    counts = np.bincount(shards.tokens, minlength=tokenizer.vocab_size)

    def train(tied: bool) -> tuple[Decoder, np.ndarray]:
        torch.set_num_threads(1)
        shape = ModelConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=48, layers=2, heads=2, context_length=64, tie_embeddings=tied
        )
        model = Decoder(shape, torch_generator(0, "weights"))
        settings = TrainerConfig(steps=120, batch_size=8, learning_rate=0.01, embedding_factor=5)
        place = folder / str(tied)
        place.mkdir()
        Trainer(
            settings, model, NextToken(), PackedBatches(shards, 8, 64, 0), scratch=place,
            metrics_path=place / "metrics.jsonl",
        ).run()  # fmt: skip
        return model.eval(), counts

    return train


@pytest.mark.parametrize("tied", [True, False])
def test_ids_that_never_occurred_are_found(
    trained: Callable[[bool], tuple[Decoder, np.ndarray]], tokenizer: Tokenizer, tied: bool
) -> None:
    model, counts = trained(tied)
    rows = model.embedding.weight.detach().numpy()
    head = None if tied else model.head_weight.detach().numpy()
    frequent = [int(one) for one in np.argsort(-counts) if (tokenizer.id_to_token(int(one)) or "").strip("Ġ").isalpha()]
    found = glitch_tokens(
        tokenizer, rows, head, counts=counts, verify=token_prober(model, tokenizer, frequent[:12])
    )  # fmt: skip
    assert found.indicator == ("cosine" if tied else "norm")
    assert found.never_occurred is not None
    assert found.never_occurred > 100
    assert found.auroc[found.indicator] > 0.95  # against all that occurred, be it once
    ranked = counts[found.candidates]
    sure = (ranked == 0) | (ranked >= _FREQUENT)
    assert auroc(-found.values[found.candidates][sure], ranked[sure] == 0) > 0.999  # type: ignore[operator]
    # What is listed hardly ever occurred, and the model cannot say it: well-trained ids it says at least a little.
    assert max(token.count for token in found.tokens if token.count is not None) < _FREQUENT
    assert found.separation == 1.0
    assert {token.verdict for token in found.tokens} <= {"confirmed", "likely"}
    # Without counts the ranking is the same: it looks at the weights alone.
    alone = glitch_tokens(tokenizer, rows, head)
    assert np.array_equal(alone.candidates, found.candidates)
    assert alone.auroc == {}
    assert alone.never_occurred is None


def test_a_model_that_copies_rejects_the_suspicion(tokenizer: Tokenizer) -> None:
    """One that answers with the token that stands five before, as the first prompt asks, says every id."""

    class Copier(Decoder):
        def hidden(self, ids_BT: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            back = 1 + len(tokenizer.encode(" = "))
            return torch.nn.functional.one_hot(ids_BT.roll(back - 1, 1), tokenizer.vocab_size) * 50.0

        def head(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden

    shape = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=8, layers=1, heads=1, context_length=64)
    found = token_prober(Copier(shape), tokenizer, [5, 6, 7])(np.arange(300))
    assert found.min() > 0.99


def test_indicators_by_hand() -> None:
    rows = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    assert measure("norm", rows, []).tolist() == [5, 1, 2, 1]
    assert measure("cosine", rows, [1]) == pytest.approx([0.4, 0, 1, 2])
    assert measure("distance", rows, [1, 2]) == pytest.approx(np.hypot([2.5, 0.5, 0.5, 1.5], [3, 1, 1, 1]))
    centred = rows - rows.mean(axis=0)
    assert measure("cosine_centred", rows, [1]) == pytest.approx(measure("cosine", centred, [1]))
    first = np.linalg.svd(rows)[2][0]
    without = rows - np.outer(rows @ first, first)
    assert measure("cosine_without_first", rows, [1]) == pytest.approx(measure("cosine", without, [1]))
    assert auroc([3, 2, 1], [True, False, False]) == 1.0
    assert auroc([1, 1, 1], [True, False, False]) == 0.5
    assert auroc([1, 2], [True, True]) is None
    assert [verdict(p) for p in (0.0005, 0.05, 0.5, 0.95)] == ["confirmed", "likely", "unclear", "rejected"]
    assert verdict(0.0005, typical=0.01) == "likely"


def test_arrays_that_do_not_fit(tokenizer: Tokenizer) -> None:
    rows = np.ones((tokenizer.vocab_size, 4))
    for arguments, message in [
        ({"input_embeddings": rows[:-1]}, r"input_embeddings has shape \(1199, 4\)"),
        ({"input_embeddings": rows, "output_embeddings": rows[:, 0]}, "output_embeddings has shape"),
        ({"input_embeddings": rows * np.nan}, "not finite"),
        ({"input_embeddings": rows, "counts": np.ones(3)}, "counts must be integers"),
        ({"input_embeddings": rows, "unused": [5000]}, "unused ids"),
    ]:
        with pytest.raises(DataError, match=message):
            glitch_tokens(tokenizer, **arguments)
    with pytest.raises(ConfigError, match=r"'smell' is not known.*norm, cosine"):
        glitch_tokens(tokenizer, rows, indicator="smell")
    with pytest.raises(DataError, match="1 example ids are too few"):
        token_prober(None, tokenizer, [1])  # type: ignore[arg-type]

"""Every recipe builds its model and takes two steps, and what a recipe cannot be is said by key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError
from seedbed.core.ragged import Ragged
from seedbed.datasets.loader import PackedBatches
from seedbed.datasets.shards import write_token_shards
from seedbed.embeddings.contrastive import ContrastiveConfig
from seedbed.models import Decoder
from seedbed.recipes import load_recipe, recipe_names
from seedbed.training import NextToken, Trainer


class _Bytes:
    """A tokenizer of bytes, for shards of any vocabulary size."""

    fingerprint = "0" * 64

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def token_to_id(self, token: str) -> int | None:
        return 0 if token == "<|endoftext|>" else None

    def encode_batch(self, texts: list[str], threads: int | None = None, **_: object) -> Ragged:
        return Ragged.from_rows(np.frombuffer(text.encode(), np.uint8) for text in texts)


def test_the_three_recipes_are_there() -> None:
    assert recipe_names() == ["demo", "gpu", "laptop"]
    assert load_recipe("demo").encoder == ContrastiveConfig()


@pytest.mark.parametrize("name", ["demo", "laptop", "gpu"])
def test_recipes_build_and_take_two_steps(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(name).pretraining
    recipe = recipe.replace(context_length=min(recipe.context_length, 64))  # the recipe's shape on a small batch
    training = recipe.training.replace(steps=2, batch_size=1, accumulation=1, checkpoint_every=2)
    vocab_size = load_recipe(name).tokenizer.vocab_size
    shards = write_token_shards(["a text " * 500] * 2, _Bytes(vocab_size), tmp_path / "tokens")
    model = Decoder(recipe.model(vocab_size), torch.Generator().manual_seed(0))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    batches = PackedBatches(shards, 1, recipe.context_length)
    result = Trainer(
        training, model, NextToken(), batches, scratch=tmp_path, metrics_path=tmp_path / "metrics.jsonl"
    ).run()
    assert result.metrics["steps"] == 2
    assert 0 < result.metrics["loss"] < 2 * np.log(vocab_size)
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("compost", {}, "there is no recipe 'compost'. Take one of demo, gpu, laptop"),
        ("../demo", {}, "there is no recipe"),
        ("demo", {"pretraining.trainning.steps": 3}, "unknown key 'pretraining.trainning'"),
        ("demo", {"pretraining.training.stepz": 3}, r"unknown key 'pretraining.training.stepz' \(known here: steps,"),
        ("demo", {"pretraining.training.steps": "many"}, "'pretraining.training.steps'"),
        ("demo", {"forecast.steps": [10]}, "'forecast.steps'"),
        ("missing.yaml", {}, "cannot read this recipe"),
    ],
)
def test_recipes_that_cannot_be(recipe: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe, overrides)

"""Beyond the trained context: losses by position, caches side by side, what they recall, where attention goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.core.config import build
from seedbed.core.errors import ConfigError, DataError
from seedbed.core.randomness import torch_generator
from seedbed.generation.long_context import (
    CACHES,
    compare_caches,
    extended,
    first_token_mass,
    loss_by_position,
    recall_by_distance,
    stretches,
)
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.models.attention import Attention
from seedbed.tokenizers import train_bpe
from seedbed.training.objectives import token_nats

TEXT = "the quick brown fox jumps over the lazy dog, and 12 more. " * 40


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.set_num_threads(1)
    values = {"vocab_size": 300, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 16}
    model = Decoder(build(ModelConfig, values), torch_generator(1, "long"))
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # so that attention tells
    return model.eval()


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 300, 2000)


def test_losses_are_those_of_the_model_and_of_its_extensions(model: Decoder, ids: np.ndarray) -> None:
    found = loss_by_position(model, ids, multiples=(1, 2, 4), texts=3)
    assert [(one.multiple, one.start, one.stop) for one in found if one.method == "none"] == [
        (4, 0, 16), (4, 16, 32), (4, 32, 64),
    ]  # fmt: skip
    rows = stretches(ids, 65, 3)
    expected = token_nats(model, rows[:, :-1], rows[:, 1:])
    for one, part in zip(found[:3], (expected[:, :16], expected[:, 16:32], expected[:, 32:]), strict=True):
        assert one.nats == pytest.approx(float(part.mean()), abs=1e-5)
    # A method set for twice the context is measured up to there, and is another model even at short range.
    yarn = [one for one in found if one.method == "yarn"]
    assert [(one.multiple, one.stop) for one in yarn] == [(2, 16), (2, 32), (4, 16), (4, 32), (4, 64)]
    assert abs(yarn[0].nats - found[0].nats) > 1e-3
    other = extended(model, "linear", 4)
    assert other.config.context_length == 64
    assert other.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()


def test_caches_cost_what_they_keep_and_lose_what_they_forget(model: Decoder, ids: np.ndarray) -> None:
    found = {one.cache: one for one in compare_caches(model, ids, window=8, sinks=2, length=40, texts=3)}
    assert list(found) == list(CACHES)
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    assert found["dense"].bytes == 40 * per_token
    assert found["window"].bytes == 8 * per_token
    assert 10 * per_token <= found["window + sinks"].bytes <= 13 * per_token
    rows = stretches(ids, 41, 3)
    whole = token_nats(model, rows[:, :-1], rows[:, 1:])[:, 10:]
    assert found["dense"].nats == pytest.approx(float(whole.mean()), abs=1e-4)
    windows = [token_nats(model, rows[:, end - 8 : end], rows[:, end - 7 : end + 1])[:, -1] for end in range(11, 41)]
    assert found["recomputation"].nats == pytest.approx(float(torch.stack(windows).mean()), abs=1e-4)
    assert len({round(one.nats, 5) for one in found.values()}) == 4


def test_what_lies_beyond_the_window_is_forgotten(model: Decoder, ids: np.ndarray) -> None:
    found = recall_by_distance(model, ids, window=8, sinks=2, distances=(5, 12, 40), tries=4, values=4)
    gains = {(one.cache, one.distance): one.nats for one in found}
    for name in CACHES:
        assert abs(gains[name, 5]) > 1e-4
    assert abs(gains["dense", 40]) > 1e-4
    # Two layers of a window of 8 reach 16 tokens back; computed anew, 8.
    for name, distance in (("window", 40), ("window + sinks", 40), ("recomputation", 12)):
        assert abs(gains[name, distance]) < 1e-5
    assert abs(gains["window", 12]) > 1e-4


def test_mass_on_first_tokens_is_that_of_the_weights(model: Decoder, ids: np.ndarray) -> None:
    rows = stretches(ids, 16, 2)
    mass = first_token_mass(model, rows, first=2)
    assert mass.shape == (2, 4)
    assert ((mass > 0) & (mass < 1)).all()
    blank = Decoder(model.config)
    with torch.no_grad():
        for block in blank.blocks:
            attention = block.attention
            assert isinstance(attention, Attention)
            attention.q_proj.weight.zero_()
    even = np.mean([2 / position for position in range(3, 17)])
    np.testing.assert_allclose(first_token_mass(blank, rows, first=2), even, rtol=1e-5)


def test_what_cannot_be_studied_is_refused(model: Decoder, ids: np.ndarray) -> None:
    with pytest.raises(DataError, match="has 100 tokens, and 129 are needed"):
        loss_by_position(model, ids[:100])
    with pytest.raises(ConfigError, match="'xpos' extends no positions"):
        extended(model, "xpos", 2)
    with pytest.raises(ConfigError, match="alibi positions have no such extension"):
        extended(Decoder(model.config.replace(positions="alibi")), "yarn", 2)
    with pytest.raises(ConfigError, match="do not reach beyond a window"):
        compare_caches(model, ids, window=40, length=40)


def test_the_command_shows_tables_and_writes_a_page(model: Decoder, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model", train_bpe([TEXT], 300))
    (tmp_path / "text.txt").write_text(TEXT * 3)
    arguments = ["inspect", "context", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt"), "--texts", "2"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    for word in ("window + sinks", "yarn", "recomputation", "perplexity"):
        assert word in result.output
    assert {"context.json", "index.html", "positions.svg", "recall.svg"} <= {
        one.name for one in (tmp_path / "out").iterdir()
    }

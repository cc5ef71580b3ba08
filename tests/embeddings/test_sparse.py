"""The sparse encoder against sentence-transformers, the loop of its formula, and its files."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, FormatError
from seedbed.embeddings import SparseEncoder, TruncationWarning
from seedbed.models import Encoder, MaskedLanguageModel, ModelConfig

TEXTS = ["read a csv file", "x", "Öffne die Datei 文件 now", "close the socket. " * 30]


def encoder(tokenizer: Any, **options: Any) -> SparseEncoder:
    torch.set_num_threads(1)
    config = ModelConfig(
        kind="encoder", vocab_size=tokenizer.vocab_size, hidden_size=32, layers=2, heads=4, context_length=64,
        norm_epsilon=1e-12, pad_token_id=1,
    )  # fmt: skip
    model = MaskedLanguageModel(Encoder(config, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.bias.copy_(torch.randn(len(model.bias), generator=torch.Generator().manual_seed(2)) - 1)
    return SparseEncoder(model, tokenizer, 48, **options)


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_sentence_transformers_opens_it_with_equal_vectors(tmp_path: Path, tokenizer: Any, pooling: Any) -> None:
    peers = pytest.importorskip("sentence_transformers")
    ours = encoder(tokenizer, pooling=pooling)
    ours.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vectors = ours.encode(TEXTS)
        peer_encoder = peers.SparseEncoder(str(tmp_path), device="cpu")
        peer = peer_encoder.encode(TEXTS).to_dense().numpy()
        peer_encoder.save_pretrained(str(tmp_path / "theirs"))
        theirs = SparseEncoder.load(tmp_path / "theirs")
        np.testing.assert_array_equal(theirs.encode(TEXTS).dense(), vectors.dense())
        again = SparseEncoder.load(tmp_path)
        np.testing.assert_array_equal(again.encode(TEXTS).dense(), vectors.dense())
    np.testing.assert_allclose(vectors.dense(), peer, atol=1e-5)
    assert 0.02 < (vectors.dense() > 0).mean() < 0.98
    assert again.fingerprint == ours.fingerprint
    assert (again.pooling, again.max_length) == (theirs.pooling, theirs.max_length) == (pooling, 48)


def test_weights_follow_the_formula_and_the_largest_are_kept(tokenizer: Any) -> None:
    ours = encoder(tokenizer)
    with pytest.warns(TruncationWarning, match="1 of 4"):
        vectors = ours.encode(TEXTS, batch_tokens=20)
    assert ours.truncated == 1
    ids = torch.from_numpy(tokenizer.encode(TEXTS[0], add_special_tokens=True).astype(np.int64))[None]
    logits = ours.model(ids)[0].detach()
    for token in range(0, tokenizer.vocab_size, 37):
        expected = max(math.log(1 + max(0.0, float(row[token]))) for row in logits)
        assert vectors.dense()[0, token] == pytest.approx(expected, abs=1e-5)
    few = ours.encode(TEXTS[0], top=5)
    whole = vectors.weights[0]
    np.testing.assert_allclose(np.sort(few.weights[0]), np.sort(whole)[-5:], rtol=1e-5)
    assert np.all(np.diff(few.tokens[0].astype(np.int64)) > 0)
    assert [weight for _, weight in ours.explain(TEXTS[0], 3)] == pytest.approx(sorted(whole)[::-1][:3], rel=1e-5)


def test_damaged_folders_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="pooling 'mean'"):
        encoder(tokenizer, pooling="mean")
    encoder(tokenizer).save(tmp_path)
    path = tmp_path / "1_SpladePooling" / "config.json"
    path.write_text(json.dumps({"pooling_strategy": "max", "activation_function": "log1p_relu"}))
    with pytest.raises(FormatError, match="log"):
        SparseEncoder.load(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(FormatError, match="its modules are none"):
        SparseEncoder.load(tmp_path)

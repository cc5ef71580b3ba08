"""An index brought up to date is the index built anew, whatever happened to the folder, also when it was killed."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.core.errors import ArtifactError, ConfigError, DataError
from seedbed.embeddings import MultiVectorEncoder, SentenceEncoder, SparseEncoder, TruncationWarning, update
from seedbed.embeddings.fusion import FusionConfig
from seedbed.embeddings.indexing import Encoders, IndexConfig
from seedbed.embeddings.late_interaction import LateInteractionConfig
from seedbed.embeddings.rerank import MaxSimReranker
from seedbed.embeddings.search import Searcher
from seedbed.embeddings.update import update_index
from seedbed.models import Encoder, MaskedLanguageModel, ModelConfig

from .conftest import documents

CONFIG = IndexConfig(passage_tokens=24)
QUERIES = ["read the csv data", "thread raises an error", "merge socket", "zebra"]
EVERYTHING = FusionConfig(dense_weight=0.3, sparse_weight=0.2, multivector_weight=0.2)


@pytest.fixture(scope="module")
def encoders(tokenizer):
    torch.set_num_threads(1)
    shape = ModelConfig(kind="encoder", vocab_size=tokenizer.vocab_size, hidden_size=16, layers=1, heads=2,
                        context_length=64)  # fmt: skip
    model = Encoder(shape, torch.Generator().manual_seed(0))
    sparse = SparseEncoder(
        MaskedLanguageModel(Encoder(shape, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)),
        tokenizer,
    )
    config = LateInteractionConfig(query_prefix=None, document_prefix=None, query_length=16, document_length=64)
    many = MultiVectorEncoder.from_model(model, tokenizer, 8, config)
    return Encoders(SentenceEncoder(model, tokenizer), sparse, many)


def write(folder: Path, rows: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in rows.items():
        (folder / name).write_text(text, encoding="utf-8")


def answers(directory: Path, encoders: Encoders, mode: str, query: str) -> list[tuple[float, str, str]]:
    searcher = Searcher.open(
        directory, encoders.dense, sparse_encoder=encoders.sparse, multivector_encoder=encoders.multivector
    )
    hits = searcher.search(query, 10_000, mode)
    return sorted((round(hit.score, 4), hit.id, hit.text) for hit in hits)


def test_updates_equal_a_rebuild(encoders, tmp_path):
    rows = {f"{row['title']}.md": row["text"] for row in documents()[:30]}
    states = [
        dict(list(rows.items())[:20]),
        dict(list(rows.items())[5:30]),
        {name: text.replace("csv", "zebra") for name, text in list(rows.items())[8:]},
        {},
        dict(list(rows.items())[3:9]),
    ]
    folder, index = tmp_path / "folder", tmp_path / "index"
    before: dict[str, str] = {}
    for step, state in enumerate(states):
        write(folder, state)
        done = update_index(folder, index, encoders, config=CONFIG if step == 0 else None)
        assert done.added == len(state.keys() - before.keys())
        assert done.removed == len(before.keys() - state.keys())
        assert done.changed == sum(before.get(name, text) != text for name, text in state.items())
        before = state
        shutil.rmtree(tmp_path / "anew", ignore_errors=True)
        assert update_index(folder, tmp_path / "anew", encoders, config=CONFIG).passages == done.passages
        for mode in ("bm25", "dense", "sparse"):
            for query in QUERIES:
                assert answers(index, encoders, mode, query) == answers(tmp_path / "anew", encoders, mode, query)
    files = {file.name for file in index.iterdir()}
    assert update_index(folder, index, encoders).unchanged == len(state)  # nothing to do, nothing written
    assert {file.name for file in index.iterdir()} == files
    assert len(files) == len({name.partition(".")[0] for name in files - {".lock"}}) + 1


def test_a_killed_update_leaves_the_index_as_it_was(encoders, tmp_path, monkeypatch):
    rows = {f"{row['title']}.md": row["text"] for row in documents()[:12]}
    folder, index = tmp_path / "folder", tmp_path / "index"
    write(folder, dict(list(rows.items())[:8]))
    only_words = Encoders()
    update_index(folder, index, only_words)
    expected = answers(index, only_words, "bm25", QUERIES[0])
    write(folder, dict(list(rows.items())[4:]))
    for name in ("write_passages", "write_atomically", "write_settings"):
        with monkeypatch.context() as patch:
            patch.setattr(update, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                update_index(folder, index, only_words)
        assert answers(index, only_words, "bm25", QUERIES[0]) == expected
    under_way = Searcher.open(index)
    assert update_index(folder, index, only_words).removed == 4
    assert [hit.missing for hit in under_way.search("csv", 100, "bm25")].count(True) >= 1  # it goes on in the old files
    assert not any(hit.missing for hit in Searcher.open(index).search("csv", 100, "bm25"))


def test_what_does_not_fit_is_refused(encoders, tokenizer, tmp_path):
    folder, index = tmp_path / "folder", tmp_path / "index"
    write(folder, {"a.md": "# A\n\nSome words.", "empty.md": "", "marks.md": "?!, ..."})
    (folder / "broken.md").write_bytes(b"\xff\xfe\x00\xd8\xff")
    (folder / "rows.jsonl").write_text('{"id": "s", "text": "a lone \\ud800 surrogate"}\n', encoding="utf-8")
    done = update_index(folder, index, Encoders(encoders.dense))
    assert done.rejected
    assert Searcher.open(index).search("surrogate", mode="bm25")
    with pytest.raises(ArtifactError, match="with an encoder"):
        update_index(folder, index)
    other = SentenceEncoder(encoders.dense.model, tokenizer, 32)
    with pytest.raises(ArtifactError, match="with another encoder"):
        update_index(folder, index, Encoders(other))
    with pytest.raises(ArtifactError, match="without an encoder"):
        update_index(folder, index, Encoders(encoders.dense, encoders.sparse))
    with pytest.raises(ConfigError, match="there already"):
        update_index(folder, index, Encoders(encoders.dense), config=CONFIG)
    with pytest.raises(DataError):
        update_index(tmp_path / "nowhere", tmp_path / "new")
    (index / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="belongs to a run"):
        update_index(folder, index, Encoders(encoders.dense))


@pytest.fixture(scope="module")
def searcher(encoders, tmp_path_factory):
    base = tmp_path_factory.mktemp("search")
    rows = [{"id": row["title"], "text": row["text"], "title": row["title"], "year": 2000 + place % 7}
            for place, row in enumerate(documents())]  # fmt: skip
    (base / "docs").mkdir()
    (base / "docs" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    update_index(base / "docs", base / "index", encoders, config=CONFIG)
    return Searcher.open(
        base / "index", encoders.dense, sparse_encoder=encoders.sparse, multivector_encoder=encoders.multivector
    )


@pytest.mark.parametrize("mode", ["bm25", "dense", "sparse", "multivector", "hybrid"])
def test_filters_reach_every_way_to_search(searcher, mode):
    fusion = EVERYTHING if mode == "hybrid" else None
    free = searcher.search("parse the json data", 40, mode, fusion=fusion)
    assert len(free) == 40
    few = searcher.search("parse the json data", 40, mode, filter="year >= 2005 and title ~ json*", fusion=fusion)
    assert few
    assert all(hit.metadata["year"] >= 2005 and hit.title.startswith("json") for hit in few)
    # Narrow filters find all that there is, in their order.
    every = searcher.search("parse the json data", 10_000, mode, filter="title ~ json*", fusion=fusion)
    assert {hit.id for hit in few} == {hit.id for hit in every if hit.metadata["year"] >= 2005}
    assert searcher.search("parse the json data", 40, mode, filter="year > 3000", fusion=fusion) == []


STRANGE = ("", "  \n", "?!... --", "Öffne 文件 файл ملف 🙂 फ़ाइल", "xyzzy", "json " * 2_000_000)
LONE = "a lone \ud800 surrogate of json"


@pytest.mark.parametrize("mode", ["bm25", "dense", "sparse", "multivector", "hybrid"])
def test_strange_queries_have_sensible_answers(searcher, mode):
    fusion = EVERYTHING if mode == "hybrid" else None
    for query in STRANGE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            hits = searcher.search(query, 3, mode, fusion=fusion, explain=len(query) < 100)
        scores = [hit.score for hit in hits]
        assert np.isfinite(scores).all()
        assert scores == sorted(scores, reverse=True)
        if mode == "bm25":
            assert bool(hits) == ("json" in query)  # of the others no word is known
    if mode == "bm25":
        assert searcher.search(LONE, 3, mode)
    else:  # no tokenizer can say what it is
        with pytest.raises(DataError, match="lone surrogate"):
            searcher.search(LONE, 3, mode, fusion=fusion)


def test_strange_texts_have_finite_vectors(encoders):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        dense = encoders.dense.encode(list(STRANGE))
        tokens = encoders.multivector.encode_documents(list(STRANGE))
        sparse = encoders.sparse.encode(list(STRANGE))
    assert np.isfinite(dense).all()
    assert np.isfinite(tokens.values).all()
    assert np.isfinite(sparse.weights.values).all()
    assert [len(one) for one in (dense, tokens, sparse)] == [len(STRANGE)] * 3
    assert all(len(row) for row in tokens)  # what stands around every text has vectors, too


def test_hits_say_why(searcher, encoders):
    (hit, *_) = searcher.search("Parse the JSON modules", 3, "hybrid", explain=True, fusion=EVERYTHING)
    assert set(hit.why.ranks) <= {"bm25", "dense", "sparse", "multivector"}
    words = [one for one in hit.why.matches if one.by == "bm25"]
    assert {one.query for one in words} <= {"Parse", "JSON", "modules"}
    assert all(hit.text[one.start : one.end] == one.text for one in words if one.start >= 0)
    alone = {one.query: one.weight for one in words}
    assert sum(alone.values()) == pytest.approx(hit.why.ranks["bm25"][1], rel=1e-5)
    learned = [one.weight for one in hit.why.matches if one.by == "sparse"]
    assert learned == sorted(learned, reverse=True)
    tokens = [one for one in hit.why.matches if one.by == "tokens"]
    assert all(hit.text[one.start : one.end] == one.text for one in tokens)
    # The cosines are those of the vectors that MaxSim sums up.
    asked = encoders.multivector.encode_queries(["Parse the JSON modules"])[0]
    held = encoders.multivector.encode_documents([hit.text])[0]
    best = (asked @ held.T).max(axis=1)
    for one in tokens:
        assert np.abs(best - one.weight).min() < 1e-5


def test_reranking_orders_the_candidates_anew(searcher, encoders):
    again = MaxSimReranker(encoders.multivector, depth=20)
    first = searcher.search("count the email data", 20, "bm25")
    found = searcher.search("count the email data", 5, "bm25", rerank=again)
    scores = again.scores(["count the email data"], lambda place: searcher.passages[place].searchable,
                          searcher.ranks(["count the email data"], 20, "bm25")[1])[0]  # fmt: skip
    assert [hit.id for hit in found] == [first[place].id for place in np.argsort(-scores, kind="stable")[:5]]
    with pytest.raises(ConfigError, match="no reranker"):
        searcher.search("x", rerank="no-such-folder")


def test_commands_update_and_search(tmp_path):
    write(
        tmp_path / "docs", {"csv.md": "# Files\n\nHow to read a csv file.", "zip.md": "# Zip\n\nHow to open archives."}
    )
    index = ["--index", str(tmp_path / "index")]
    told = CliRunner().invoke(app, ["index", "update", str(tmp_path / "docs"), *index])
    assert told.exit_code == 0, told.output
    assert "2 added" in told.output
    (tmp_path / "docs" / "csv.md").unlink()
    found = CliRunner().invoke(app, ["search", "read csv files", *index, "--explain", "--filter", "source ~ c*"])
    assert found.exit_code == 0, found.output
    assert "no longer there" in found.output
    assert "words: files 0." in found.output
    assert "1 removed" in CliRunner().invoke(app, ["index", "update", str(tmp_path / "docs"), *index]).output
    assert "Nothing found" in CliRunner().invoke(app, ["search", "xyzzy", *index]).output

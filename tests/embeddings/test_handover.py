"""A search index goes to Qdrant and comes back as the same files; the commands say what they did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from seedbed.cli.app import app
from seedbed.core.artifacts import Workspace, build_artifact
from seedbed.core.errors import ConfigError, DataError
from seedbed.embeddings.build import IndexConfig, new_indexes
from seedbed.embeddings.chunking import Passage
from seedbed.embeddings.handover import export_search, import_search
from seedbed.embeddings.passages import write_passages
from seedbed.embeddings.search import BM25, DENSE, PASSAGES, SETTINGS, Searcher, SearchSettings, write_settings
from seedbed.indexes.qdrant import QdrantCollection
from seedbed.indexes.qdrant_edge import EdgeCollection

from .conftest import documents

pytest.importorskip("qdrant_client")
pytest.importorskip("qdrant_edge")

DIM = 12


def _build(folder: Path, seed: int = 0) -> dict[str, int]:
    rows = documents()
    passages = [Passage(f"{row['id']}#0", row["id"], row["title"], row["source"], row["text"]) for row in rows]
    passages.append(Passage("empty#0", "empty", "", "nowhere", "..."))  # no terms
    words, dense = new_indexes(IndexConfig(k1=0.9, m=8), DIM)
    words.add([passage.searchable for passage in passages])
    dense.add(np.random.default_rng(seed).normal(size=(len(passages), DIM)))
    write_passages(folder / PASSAGES, passages)
    words.save(folder / BM25)
    dense.save(folder / DENSE)
    write_settings(folder, SearchSettings(encoder_fingerprint="of the test", ef=77))
    return {"passages": len(passages)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"sources": [], "recipe": {}}))

    def produce(work: Workspace) -> dict[str, int]:
        return _build(work.path)

    build_artifact(folder / "index", "index", IndexConfig(), {}, produce)
    return folder


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def test_through_the_real_engine_and_back_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    told = _call("export", "qdrant", "--run", run, "--edge", tmp_path / "edge")
    assert told.exit_code == 0, told.output
    assert "101 passages" in told.output
    assert told.output.count("1.0000") == 2  # so little is searched exactly
    again = _call("export", "qdrant", "--run", run, "--edge", tmp_path / "edge", "--check", 0)
    assert "101 of them there already" in again.output
    back = _call("import", "qdrant", "--edge", tmp_path / "edge", "--out", tmp_path / "back")
    assert back.exit_code == 0, back.output
    for name in (DENSE, BM25, PASSAGES, SETTINGS):
        assert (tmp_path / "back" / name).read_bytes() == (run / "index" / name).read_bytes(), name
    refused = _call("import", "qdrant", "--edge", tmp_path / "edge", "--out", tmp_path / "back")
    assert refused.exit_code == 1
    assert "is there already" in refused.output


def test_through_local_mode_and_back_to_the_same_answers(run: Path, tmp_path: Path) -> None:
    told = _call("export", "qdrant", "--run", run, "--path", tmp_path / "local")
    assert told.exit_code == 0, told.output
    assert "collection 'tiny': 101 passages" in told.output
    back = _call("import", "qdrant", "--path", tmp_path / "local", "--collection", "tiny", "--out", tmp_path / "back")
    assert back.exit_code == 0, back.output
    one, other = Searcher.open(run / "index"), Searcher.open(tmp_path / "back")
    assert list(one.passages) == list(other.passages)
    assert one.settings == other.settings
    assert one.search("parse csv", mode="bm25") == other.search("parse csv", mode="bm25")
    assert one.dense is not None
    assert other.dense is not None
    queries = one.dense.vectors(one.dense.ids)
    np.testing.assert_array_equal(one.dense.search(queries, 5)[1], other.dense.search(queries, 5)[1])

    (tmp_path / "other").mkdir()
    _build(tmp_path / "other", seed=1)
    collection = QdrantCollection.in_folder(tmp_path / "local", "tiny")
    with pytest.raises(ConfigError, match="made from another source"):
        export_search(tmp_path / "other", collection)
    assert export_search(tmp_path / "other", collection, replace=True) == (101, 101)
    collection.close()


def test_what_is_no_search_index_there_is_refused(run: Path, tmp_path: Path) -> None:
    collection = EdgeCollection(tmp_path / "edge")
    with pytest.raises(ConfigError, match="no search index of seedbed is there"):
        import_search(collection, tmp_path / "back")
    export_search(run / "index", collection)
    import qdrant_edge

    collection._open().update(qdrant_edge.UpdateOperation.clear_payload([7]))
    with pytest.raises(DataError, match="point 7 is no passage"):
        import_search(collection, tmp_path / "back")
    collection._open().update(qdrant_edge.UpdateOperation.delete_points([7]))
    assert import_search(collection, tmp_path / "back") == (100, 101)
    assert len(Searcher.open(tmp_path / "back").passages) == 100
    collection.close()
    both = _call("export", "qdrant", "--run", run, "--edge", "a", "--path", "b")
    assert both.exit_code == 1
    assert "exclude each other" in both.output

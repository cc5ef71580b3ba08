"""Test collections read from files, and metrics on their runs against trec_eval's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import DataError, FormatError
from seedbed.evaluation import collections, retrieval


def test_metrics_equal_trec_eval_on_runs_with_ties_graded_and_negative_judgements(tmp_path: Path) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    draws = np.random.default_rng(0)
    documents = [f"d{number}" for number in range(40)]
    qrels = {
        f"q{query}": {one: int(gain) for one, gain in zip(documents[:25], draws.integers(-1, 4, 25), strict=True)}
        for query in range(30)
    }
    run = {
        query: {one: float(score) for one, score in zip(documents, draws.integers(0, 12, 40), strict=True)}
        for query in qrels
    }
    collections.write_run(tmp_path / "run", run)
    ranked = collections.read_run(tmp_path / "run")
    measures = {"ndcg": "ndcg_cut_10", "recall": "recall_10", "precision": "P_10", "map": "map_cut_10"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {*measures.values(), "recip_rank"}).evaluate(run)
    rows, relevant = [ranked[query] for query in qrels], list(qrels.values())
    for ours, name in measures.items():
        expected = [theirs[query][name] for query in qrels]
        np.testing.assert_allclose(retrieval.per_query(ours, rows, relevant, 10), expected, atol=1e-9)
    expected = [theirs[query]["recip_rank"] for query in qrels]
    np.testing.assert_allclose(retrieval.per_query("mrr", rows, relevant, 1000), expected, atol=1e-9)


def test_cranfield_and_limit_are_read_whole(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("ir/cranfield")
    cranfield = collections.read_trec(
        *(folder / name for name in ("cran.all.1400.xml", "cran.qry.xml", "cranqrel.trec.txt"))
    )
    assert (len(cranfield.documents), len(cranfield.queries), len(cranfield.asked)) == (1400, 225, 225)
    assert cranfield.queries["225"].startswith("what design factors can be used to control lift-drag ratios")
    assert cranfield.documents["1"].startswith(
        "experimental investigation of the aerodynamics of a wing in a slipstream"
    )
    assert cranfield.judgements["1"]["184"] == 1.0
    limit = collections.read_beir(shared_data("limit-small"))
    assert len(limit.asked) == len(limit.queries) == 1000
    assert all(set(gains) <= set(limit.documents) for gains in limit.relevant)


def test_a_beir_folder_and_what_is_wrong_with_one(tmp_path: Path) -> None:
    rows = [{"_id": "a", "title": "T", "text": "one"}, {"_id": 7, "text": "two"}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "?"}\n{"_id": "r", "text": "!"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t2\nr\ta\t0\n")
    found = collections.read_beir(tmp_path)
    assert found.documents == {"a": "T\none", "7": "two"}
    assert found.asked == ["q"]
    assert found.relevant == [{"a": 2.0}]
    (tmp_path / "qrels" / "test.tsv").write_text("q\ta\ttwo\n")
    with pytest.raises(DataError, match=r"test.tsv:1.*'two' is no number"):
        collections.read_beir(tmp_path)
    with pytest.raises(DataError, match=r"dev.tsv.*missing"):
        collections.read_beir(tmp_path, "dev")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "?"}\n{"text": "!"}\n')
    with pytest.raises(DataError, match=r"queries.jsonl:2.*no '_id'"):
        collections.read_beir(tmp_path)


def test_bad_trec_files_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1 0 d 1\n\n1 0 d\n")
    with pytest.raises(DataError, match=r":3.*3 columns"):
        collections.read_judgements(path)
    path.write_text("1 Q0 d 1 high tag\n")
    with pytest.raises(DataError, match=r":1.*'high' is no number"):
        collections.read_run(path)
    path.write_text("no elements")
    with pytest.raises(FormatError, match="no <doc>"):
        collections.read_trec(path, path, path)

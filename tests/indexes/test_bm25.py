"""BM25 against a twin written from its formula, through additions and removals; the analyser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes import Analyzer, AnalyzerConfig, BM25Index

WORDS = ["red", "green", "blue", "json.dumps", "readCsv", "snake_case_name", "the", "files"]


def naive_bm25(texts: dict[int, str], query: str, analyze, k1: float, b: float) -> dict[int, float]:
    documents = {key: analyze(text) for key, text in texts.items()}
    average = max(1, sum(map(len, documents.values()))) / max(1, len(documents))
    scores = {}
    for key, terms in documents.items():
        score = 0.0
        for term in analyze(query):
            holders = sum(term in other for other in documents.values())
            tf = terms.count(term)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(terms) / average)) if tf else 0.0
        if score:
            scores[key] = score
    return scores


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(texts, texts, st.data(), st.sampled_from([(1.2, 0.75), (0.9, 0.4), (0.0, 0.0)]))
def test_scores_equal_the_formula_after_any_change(first, second, data, parameters):
    k1, b = parameters
    index, live = BM25Index(k1, b), {}
    for group in (first, second):
        ids = [len(live) * 7 + 1000 * (group is second) + i for i in range(len(group))]
        index.add(group, ids)
        live.update(zip(ids, group, strict=True))
        gone = data.draw(st.lists(st.sampled_from(sorted(live)), unique=True))
        index.remove(gone)
        for key in gone:
            del live[key]
    assert len(index) == len(live)
    for query in (*WORDS, "red red green dumps", "unknown"):
        expected = naive_bm25(live, query, Analyzer(), k1, b)
        scores, ids = index.search([query], k=30)
        found = {int(key): float(score) for key, score in zip(ids[0], scores[0], strict=True) if key >= 0}
        assert found == pytest.approx(expected, rel=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_filter_padding_and_bad_input():
    index = BM25Index()
    index.add(["red fox", "red red", "blue"], [3, 5, 8])
    scores, ids = index.search(["red", "", "zebra"], k=4)
    assert ids.tolist() == [[5, 3, -1, -1], [-1] * 4, [-1] * 4]
    assert np.isneginf(scores[1:]).all()
    assert index.search("red", k=2, filter=[3, 8, 99])[1].tolist() == [[3, -1]]
    assert index.search([], k=2)[1].shape == (0, 2)
    for bad in ([None], [b"bytes"], [3]):
        with pytest.raises(DataError):
            index.add(bad)
    with pytest.raises(DataError):
        index.add(["x"], [3])
    with pytest.raises(DataError):
        index.remove([4])
    with pytest.raises(ConfigError):
        BM25Index(b=2)
    assert len(index) == 3
    empty = BM25Index()
    assert empty.search(["red"], 1)[1].tolist() == [[-1]]


def test_identifiers_are_found_whole_and_by_parts():
    terms = Analyzer()("json.JSONDecodeError reads_csvFile in HTTPServer2 the Café and 北京大学")
    for wanted in (
        "json.jsondecodeerror",
        "json",
        "jsondecodeerror",
        "decode",
        "error",
        "reads_csvfile",
        "read",
        "csv",
    ):
        assert wanted in terms
    assert {"file", "httpserver2", "http", "server", "2", "café", "北京大学"} <= set(terms)
    assert "the" not in terms
    plain = Analyzer(AnalyzerConfig(identifiers=False, stop_words=False, stem_plurals=False))
    assert plain("The json.JSONFiles") == ["the", "json", "jsonfiles"]
    assert Analyzer()("__ ... \ud800 \x00 " + "x" * 100_000)[-1] == "x" * 100_000
    assert Analyzer()("queries classes files us pass") == ["query", "classe", "file", "us", "pass"]

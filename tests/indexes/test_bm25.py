"""BM25 against a twin written from its formula, through additions and removals; the analyser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed import _native
from seedbed.core.errors import ConfigError, DataError
from seedbed.indexes import Analyzer, AnalyzerConfig, BM25Index

WORDS = ["red", "green", "blue", "json.dumps", "readCsv", "snake_case_name", "the", "files"]


# Kamphuis et al. (2020), table 1: idf of N documents and n holders, and what tf occurrences give where u = 1 - b +
# b |d| / average.
FORMULAS = {
    "lucene": (lambda N, n: math.log(1 + (N - n + 0.5) / (n + 0.5)), lambda tf, u, k1, delta: tf / (tf + k1 * u)),
    "robertson": (
        lambda N, n: max(0, math.log((N - n + 0.5) / (n + 0.5))),
        lambda tf, u, k1, delta: tf / (tf + k1 * u),
    ),
    "atire": (lambda N, n: math.log(N / n), lambda tf, u, k1, delta: (k1 + 1) * tf / (tf + k1 * u)),
    "bm25l": (
        lambda N, n: math.log((N + 1) / (n + 0.5)),
        lambda tf, u, k1, delta: (k1 + 1) * (tf / u + delta) / (k1 + tf / u + delta),
    ),
    "bm25+": (
        lambda N, n: math.log((N + 1) / n),
        lambda tf, u, k1, delta: delta + (k1 + 1) * tf / (tf + k1 * u),
    ),
}


def naive_bm25(texts: dict[int, str], query: str, analyze, k1, b, variant="lucene", delta=0.5) -> dict[int, float]:
    documents = {key: analyze(text) for key, text in texts.items()}
    average = max(1, sum(map(len, documents.values()))) / max(1, len(documents))
    idf, gain = FORMULAS[variant]
    scores = {}
    for key, terms in documents.items():
        score, shared = 0.0, False
        for term in analyze(query):
            if holders := sum(term in other for other in documents.values()):
                tf = terms.count(term)
                shared |= tf > 0
                if tf or variant in ("bm25l", "bm25+"):
                    u = 1 - b + b * max(1, len(terms)) / average
                    score += idf(len(documents), holders) * gain(tf, u, k1, delta)
        if shared:
            scores[key] = score
    return scores


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(texts, texts, st.data(), st.sampled_from([(1.2, 0.75), (0.9, 0.4), (2.0, 1.0)]), st.sampled_from([*FORMULAS]))
def test_scores_equal_the_formula_after_any_change(first, second, data, parameters, variant):
    k1, b = parameters
    index, live = BM25Index(k1, b, variant=variant), {}
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
        expected = naive_bm25(live, query, Analyzer(), k1, b, variant)
        scores, ids = index.search([query], k=30)
        found = {int(key): float(score) for key, score in zip(ids[0], scores[0], strict=True) if key >= 0}
        assert found == pytest.approx(expected, rel=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def zipfian(count: int, seed: int = 0) -> list[str]:
    """Texts whose words repeat as words do; some texts stand there many times."""
    random = np.random.default_rng(seed)
    words = random.zipf(1.3, size=(count, 12)) % 3000
    lengths = random.integers(1, 13, count)
    return [" ".join(f"w{word}" for word in row[:length]) for row, length in zip(words, lengths, strict=True)]


@pytest.mark.parametrize("variant", [*FORMULAS])
def test_scores_and_ranks_equal_bm25s_and_every_list_added_up(variant):
    """More documents than a window, common and rare words: lists are left unread, and the answers stay the same."""
    bm25s = pytest.importorskip("bm25s")
    texts = zipfian(6000)
    queries = [*zipfian(20, seed=1), "w1", "w1 w2 w3", "w1 w1 w2999"]
    plain = AnalyzerConfig(identifiers=False, stop_words=False, stemmer="none")
    index = BM25Index(1.5, 0.75, plain, variant=variant, delta=0.5)
    index.add(texts)
    scores, ids = index.search(queries, len(texts))  # k this large reads every list
    for level in at_every_level():
        for found, expected in zip(index.search(queries, 10, threads=2), (scores, ids), strict=True):
            np.testing.assert_array_equal(found, expected[:, :10], err_msg=level)
    peer = bm25s.BM25(k1=1.5, b=0.75, delta=0.5, method=variant)
    documents = [text.split() for text in texts]
    peer.index(documents, show_progress=False)
    holders = [set(document) for document in documents]
    for query, row, best in zip(queries, ids, scores, strict=True):
        words = query.split()
        expected = peer.get_scores(words)
        found = row >= 0
        np.testing.assert_allclose(best[found], expected[row[found]], rtol=1e-6, atol=1e-6)
        assert sorted(row[found]) == [i for i, held in enumerate(holders) if not held.isdisjoint(words)]


def at_every_level():
    """Sets each level of SIMD that this processor has, and at last the one that was set before."""
    before = _native.simd_level()
    try:
        for level in ("scalar", "avx2", "avx512"):
            try:
                _native.set_simd_level(level)
            except ValueError:
                continue
            yield level
    finally:
        _native.set_simd_level(before)


def test_an_updated_index_answers_as_one_built_anew():
    texts = zipfian(3000)
    random = np.random.default_rng(2)
    index, live = BM25Index(), dict[int, str]()
    for start in range(0, len(texts), 600):
        group = dict(enumerate(texts[start : start + 600], start))
        index.add(list(group.values()), list(group))
        live.update(group)
        gone = random.choice(sorted(live), 150, replace=False).tolist()
        index.remove(gone)
        for key in gone:
            del live[key]
        again = BM25Index()
        again.add(list(live.values()), list(live))
        queries = texts[start : start + 20]
        allowed = random.choice(len(texts), 900, replace=False)
        for few in (None, allowed, allowed[:8]):
            for one, other in zip(index.search(queries, filter=few), again.search(queries, filter=few), strict=True):
                np.testing.assert_array_equal(one, other)


def test_filter_padding_and_bad_input():
    index = BM25Index()
    index.add(["red fox", "red red", "blue"], [3, 5, 8])
    scores, ids = index.search(["red", "", "zebra"], k=4)
    assert ids.tolist() == [[5, 3, -1, -1], [-1] * 4, [-1] * 4]
    assert np.isneginf(scores[1:]).all()
    assert index.search("red", k=2, filter=[3, 8, 99])[1].tolist() == [[3, -1]]
    assert index.search([], k=2)[1].shape == (0, 2)
    for bad in ([None], [b"bytes"], [3], None, 3):
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
    terms = Analyzer(AnalyzerConfig(stemmer="plural"))(
        "json.JSONDecodeError reads_csvFile in HTTPServer2 the Café and 北京大学"
    )
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
    plain = Analyzer(AnalyzerConfig(identifiers=False, stop_words=False, stemmer="none"))
    assert plain("The json.JSONFiles") == ["the", "json", "jsonfiles"]
    assert Analyzer()("__ ... \ud800 \x00 " + "x" * 100_000)[-1] == "x" * 100_000
    plural = Analyzer(AnalyzerConfig(stemmer="plural"))
    assert plural("queries classes files us pass") == ["query", "classe", "file", "us", "pass"]


def test_words_are_stemmed_in_the_language_asked_for():
    assert Analyzer()("connections connected relational ponies") == ["connect", "connect", "relat", "poni"]
    german = Analyzer(AnalyzerConfig(stemmer="german", stop_words=("Die",)))
    assert german("Die Häuser des Nachbarn") == ["haus", "des", "nachbarn"]
    index = BM25Index(analyzer=AnalyzerConfig(stemmer="russian"))
    index.add(["быстрая лиса", "ленивые собаки"])
    assert index.search("собака", 1)[1].tolist() == [[1]]
    with pytest.raises(ConfigError, match="klingon"):
        Analyzer(AnalyzerConfig(stemmer="klingon"))
    with pytest.raises(ConfigError, match="bm26"):
        BM25Index(variant="bm26")

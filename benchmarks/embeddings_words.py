"""Training word vectors beside gensim: words per second, and whether the vectors are as good.

    python -m benchmarks.embeddings_words [--threads 1 2] [--rounds 3] [--json benchmarks/results]

The same English words, settings and passes. Quality: Spearman's correlation, on the STS benchmark's test pairs, of the
cosines of means of word vectors with people's scores.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts as corpora
from benchmarks.measuring import circumstances, spread, write_results
from seedbed.core.console import console, table
from seedbed.embeddings import WordVectors
from seedbed.embeddings.words import WordVectorsConfig
from seedbed.evaluation.similarity import ScoredPairs, read_sts, spearman
from seedbed.indexes.analysis import Analyzer, AnalyzerConfig

_CORPORA = ("abc", "state_union", "inaugural", "movie_reviews", "webtext")


def english() -> list[list[str]]:
    analyzer = Analyzer(AnalyzerConfig(identifiers=False, stop_words=False, stemmer="none"))
    texts = [text for name in _CORPORA for text in corpora.zipped(name)]
    lines = (line for text in texts for line in text.split("\n\n"))
    return [words for line in lines if len(words := analyzer(line)) > 1]


def ours(texts: list[list[str]], config: WordVectorsConfig, threads: int) -> WordVectors:
    return WordVectors.train(texts, config, threads=threads)


def gensims(texts: list[list[str]], config: WordVectorsConfig, threads: int) -> WordVectors:
    from gensim.models import Word2Vec

    model = Word2Vec(
        texts, vector_size=config.dim, window=config.window, min_count=config.min_count, epochs=config.epochs,
        sg=int(config.algorithm == "skipgram"), negative=config.negatives, sample=config.subsample,
        alpha=config.learning_rate, workers=threads, seed=config.seed,
    )  # fmt: skip
    return WordVectors(model.wv.index_to_key, model.wv.vectors)


def quality(vectors: WordVectors, pairs: ScoredPairs) -> float:
    first, second = vectors.encode(pairs.first), vectors.encode(pairs.second)
    return spearman((first * second).sum(axis=1), pairs.scores)


def main() -> None:
    parser = argparse.ArgumentParser(description="Word vectors: words per second beside gensim.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--algorithms", nargs="+", default=["skipgram", "cbow"], choices=["skipgram", "cbow"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="folder for embeddings-words.json, such as benchmarks/results")
    options = parser.parse_args()
    texts = english()
    words = sum(map(len, texts))
    pairs = read_sts(corpora.SHARED / "sts" / "stsb-en-test.csv")
    contenders: dict[str, Callable[..., WordVectors]] = {"seedbed": ours, "gensim": gensims}
    rows, content = [], []
    for algorithm, threads in itertools.product(options.algorithms, options.threads):
        config = WordVectorsConfig(
            algorithm=algorithm, epochs=3, learning_rate=0.025 if algorithm == "skipgram" else 0.05
        )
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        scores: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, train in contenders.items():
                start = time.perf_counter()
                vectors = train(texts, config, threads)
                speeds[name].append(words * config.epochs / (time.perf_counter() - start))
                scores[name] = quality(vectors, pairs)
        ratios = [a / b for a, b in zip(speeds["seedbed"], speeds["gensim"], strict=True)]
        rows += [
            (
                algorithm, threads, name, f"{statistics.median(speeds[name]):,.0f}", f"{100 * scores[name]:.1f}",
                spread(ratios, 2) if name == "seedbed" else "",
            )
            for name in contenders
        ]  # fmt: skip
        content.append(
            {"algorithm": algorithm, "threads": threads, "words per second": speeds, "sts": scores, "ratios": ratios}
        )
    if not console.is_terminal:
        console.width = 150
    title = f"{words:,} words of English, 100 dimensions, 5 negatives, window 5, 3 passes"
    table(("algorithm", "threads", "", "words/s", "STS Spearman", "× gensim"), rows, title=title)
    if options.json:
        result: dict[str, Any] = {
            "circumstances": circumstances(["seedbed", "gensim", "numpy"]),
            "words": words,
            "runs": content,
        }
        write_results(options.json / "embeddings-words.json", result)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()

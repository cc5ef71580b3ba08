"""Word vectors: the native step against its twin in NumPy, what is learnt, and word2vec's files against gensim's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seedbed import _native
from seedbed.core.errors import DataError, FormatError
from seedbed.core.ragged import Ragged
from seedbed.embeddings import WordVectors
from seedbed.embeddings.cooccurrence import cooccurrences
from seedbed.embeddings.words import WordVectorsConfig

GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
TEXTS = [np.array(text, dtype=np.uint32) for text in ([0, 1, 2, 3, 1], [4, 2, 0], [], [3], [1, 1, 4, 5, 0, 2, 3, 5])]


class Stream:
    """xorshift64* from a splitmix of seed and number, as in native/embedding/word_vectors.cpp."""

    def __init__(self, seed: int, number: int) -> None:
        def mix(z: int) -> int:
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
            return z ^ (z >> 31)

        inner = mix((seed + GOLDEN) & MASK)
        self.state = mix((mix((inner + (number + 1) * GOLDEN) & MASK) + GOLDEN) & MASK) | 1

    def next(self) -> int:
        self.state ^= self.state >> 12
        self.state ^= self.state << 25 & MASK
        self.state ^= self.state >> 27
        return (self.state * 0x2545F4914F6CDD1D & MASK) >> 32


def naive_epoch(inputs, outputs, keep, noise, cbow, window, negatives, rate, last_rate, seed):
    """One pass in the words of the paper: maximise log s(u.v) for pairs that meet, and log s(-u.v) for noise."""
    offset, total = 0, sum(map(len, TEXTS))
    for text in TEXTS:
        stream, step = Stream(seed, offset), rate + (last_rate - rate) * offset / total
        offset += len(text)
        kept = [word for word in text if keep[word] >= 1 or (stream.next() >> 8) / 2**24 < keep[word]]
        for place, word in enumerate(kept):
            reach = 1 + (stream.next() * window >> 32)
            near = [kept[j] for j in range(max(0, place - reach), min(len(kept), place + reach + 1)) if j != place]
            if not near:
                continue
            drawn = [noise[stream.next() * len(noise) >> 32] for _ in range(negatives)]
            targets = [(word, 1.0)] + [(one, 0.0) for one in drawn if one != word]
            changes = np.zeros((len(targets), inputs.shape[1]))
            for first in range(0, len(near), 4):
                sources = (
                    [inputs[near].mean(axis=0)] if cbow else [inputs[one].copy() for one in near[first : first + 4]]
                )
                back = []
                for source in sources:
                    errors = np.array([label - 1 / (1 + np.exp(-(source @ outputs[one]))) for one, label in targets])
                    back.append(step * errors @ np.array([outputs[one] for one, _ in targets]))
                    changes += step * np.outer(errors, source)
                if cbow:
                    for one in near:
                        inputs[one] += back[0]
                    break
                for one, change in zip(near[first : first + 4], back, strict=True):
                    inputs[one] += change
            for (one, _), change in zip(targets, changes, strict=True):
                outputs[one] += change


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_a_pass_equals_its_twin(cbow: bool, level: str) -> None:
    draws, words, dim = np.random.default_rng(0), 6, 20
    inputs, outputs = (draws.normal(size=(words, dim)) for _ in range(2))
    keep, noise = np.array([1, 0.6, 1, 0.7, 1, 1], dtype=np.float32), draws.integers(0, words, 64).astype(np.uint32)
    padded = [np.zeros((words, 32), dtype=np.float32) for _ in range(2)]
    padded[0][:, :dim], padded[1][:, :dim] = inputs, outputs
    before = _native.simd_level()
    try:
        _native.set_simd_level(level)
    except ValueError:
        pytest.skip(f"this processor has no {level}")
    texts = Ragged.from_rows(TEXTS)
    try:
        _native.train_word_predictions(
            texts.values, texts.offsets, *padded, dim, keep, noise, cbow, 3, 4, 0.1, 0.05, 7, 1
        )
    finally:
        _native.set_simd_level(before)
    naive_epoch(inputs, outputs, keep, noise, cbow, 3, 4, 0.1, 0.05, 7)
    np.testing.assert_allclose(padded[0][:, :dim], inputs, atol=2e-3)  # the kernel looks its sigmoid up in a table
    np.testing.assert_allclose(padded[1][:, :dim], outputs, atol=2e-3)
    assert not padded[0][:, dim:].any()


def test_counts_of_meetings_by_hand() -> None:
    words, contexts, counts = cooccurrences(Ragged.from_rows(TEXTS), 6, 2)
    table = np.zeros((6, 6))
    for text in TEXTS:
        for i, first in enumerate(text):
            for j, second in enumerate(text):
                if 0 < abs(i - j) <= 2:
                    table[first, second] += 1 / abs(i - j)
    found = np.zeros((6, 6))
    found[words, contexts] = counts
    np.testing.assert_allclose(found, table, rtol=1e-6)


def grammar() -> list[list[str]]:
    """Sentences about countries: who speaks what where. Words of one kind, and of one country, keep company."""
    draws = np.random.default_rng(1)
    facts = [("france", "french", "paris"), ("germany", "german", "berlin"), ("italy", "italian", "rome"),
             ("spain", "spanish", "madrid"), ("poland", "polish", "warsaw")]  # fmt: skip
    shapes = ["people from {0} speak {1}", "the capital of {0} is {2}", "in {2} they teach {1} books",
              "we flew to {2} town", "{0} is a country", "learn the {1} language", "he left {0} for {2}"]  # fmt: skip
    return [shapes[draws.integers(len(shapes))].format(*facts[draws.integers(len(facts))]).split() for _ in range(4000)]


@pytest.mark.parametrize("algorithm", ["skipgram", "cbow", "glove"])
def test_words_that_keep_the_same_company_are_close_and_one_thread_is_exact(algorithm: str) -> None:
    config = WordVectorsConfig(
        algorithm=algorithm, dim=16, window=4, epochs=10 if algorithm != "glove" else 25, subsample=0,
        learning_rate=0.05, min_count=2,
    )  # fmt: skip
    texts = grammar()
    vectors = WordVectors.train(texts, config)
    kinds = [{"france", "germany", "italy", "spain", "poland"}, {"french", "german", "italian", "spanish", "polish"},
             {"paris", "berlin", "rome", "madrid", "warsaw"}]  # fmt: skip
    right = sum(vectors.neighbours(word, 1)[0][0] in kind for kind in kinds for word in kind)
    assert right >= 13, algorithm
    np.testing.assert_array_equal(WordVectors.train(texts, config).vectors, vectors.vectors)
    assert WordVectors.train(texts, config, threads=2).vectors.shape == vectors.vectors.shape


def test_analogies_are_the_closest_to_the_parallelogram() -> None:
    base = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    words = ["man", "woman", "king", "queen", "dog"]
    rows = np.stack([base[0], base[0] + base[1], base[0] + base[2], base[0] + base[1] + base[2], -base[0]])
    vectors = WordVectors(words, rows)
    assert vectors.analogy("man", "king", "woman")[0][0] == "queen"
    assert "dog" in vectors
    with pytest.raises(DataError, match="'cat' is not among the 5 words"):
        vectors.neighbours("cat")


@pytest.mark.parametrize("binary", [True, False])
def test_files_are_word2vecs(tmp_path: Path, binary: bool) -> None:
    words = ["the", "Öffnung", "文件", "x.y"]
    vectors = WordVectors(words, np.random.default_rng(3).normal(size=(4, 7)).astype(np.float32))
    path = tmp_path / "vectors"
    vectors.save(path, binary=binary)
    again = WordVectors.load(path, binary=binary)
    assert again.words == words
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    models = pytest.importorskip("gensim.models")
    theirs = models.KeyedVectors.load_word2vec_format(str(path), binary=binary)
    assert theirs.index_to_key == words
    np.testing.assert_array_equal(theirs.vectors, vectors.vectors)
    theirs.save_word2vec_format(str(path), binary=binary)
    np.testing.assert_allclose(WordVectors.load(path, binary=binary).vectors, vectors.vectors, rtol=1e-6)
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        if binary or size < len(whole) - 10:
            with pytest.raises((FormatError, DataError)):
                WordVectors.load(path, binary=binary)


def test_vectors_distilled_from_an_encoder_and_texts_of_them() -> None:
    class Encoder:
        def encode(self, texts, normalize):
            return np.stack([np.random.default_rng(len(text)).normal(size=12) for text in texts]).astype(np.float32)

    vectors = WordVectors.distil(Encoder(), ["a", "bb", "ccc", "dddd", "eeeee"], dim=4)
    assert vectors.vectors.shape == (5, 4)
    encoded = vectors.encode(["A bb!", "unknown", "ccc"])
    mean = (vectors["a"] + vectors["bb"]) / 2
    np.testing.assert_allclose(encoded[0], mean / np.linalg.norm(mean), rtol=1e-5)
    assert not encoded[1].any()


def test_too_little_text_and_words_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lower min_count"):
        WordVectors.train(["so few words"])
    with pytest.raises(DataError, match="white space"):
        WordVectors(["a b", "c"], np.ones((2, 2), np.float32)).save(tmp_path / "x")
    with pytest.raises(DataError, match="twice"):
        WordVectors(["a", "a"], np.ones((2, 2), np.float32))

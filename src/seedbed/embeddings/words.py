"""Word vectors: skip-gram, CBOW and GloVe, trained natively; static vectors distilled from an encoder; analogies.

V words, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from .. import _native
from ..core.artifacts import write_atomically
from ..core.config import Config
from ..core.console import progress
from ..core.devices import cpu_count
from ..core.errors import DataError, FormatError, disk_errors
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator
from ..indexes.analysis import Analyzer, AnalyzerConfig
from .cooccurrence import cooccurrences

Floats = npt.NDArray[np.float32]

_WORDS = AnalyzerConfig(identifiers=False, stop_words=False, stemmer="none")
_NOISE_POWER, _NOISE_SIZE = 0.75, 1 << 20  # Mikolov et al. 2013, section 2.2
_LARGEST_FILE, _LONGEST_WORD = 1 << 36, 1 << 16
_LINE = 16  # floats: rows of the native kernels are whole lines of the cache


class WordVectorsConfig(Config):
    """How word vectors are trained; the defaults are word2vec's and GloVe's own."""

    algorithm: Literal["skipgram", "cbow", "glove"] = "skipgram"
    dim: int = Field(100, ge=1, le=4096, description="width of the vectors")
    window: int = Field(5, ge=1, le=100, description="words to each side that count; of skip-gram and CBOW at most")
    min_count: int = Field(5, ge=1, description="occurrences below which a word is left out")
    negatives: int = Field(5, ge=1, le=31, description="words drawn as negatives (skip-gram, CBOW)")
    subsample: float = Field(1e-3, ge=0, description="frequency above which occurrences are left out; 0: none are")
    epochs: int = Field(5, ge=1, description="passes over the text (skip-gram, CBOW) or the counts (GloVe: 15 to 50)")
    learning_rate: float = Field(0.025, gt=0, description="at the start; GloVe's own is 0.05")
    count_limit: float = Field(100.0, gt=0, description="GloVe: count from which a pair weighs no more")
    count_power: float = Field(0.75, ge=0, description="GloVe: how weights grow below that")
    seed: int = Field(0, ge=0, description="of the start, the order and the draws")


@dataclass(frozen=True)
class Vocabulary:
    """Texts as lists of words, and the words that are frequent enough, by falling count, with it."""

    texts: list[Sequence[str]]
    words: list[str]
    counts: Counter[str]


def vocabulary(texts: Iterable[str] | Iterable[Sequence[str]], min_count: int) -> Vocabulary:
    """The words of texts, which become lower-case words, or of lists of words taken as they are.

    Raises:
        DataError: fewer than two are frequent enough.
    """
    analyzer = Analyzer(_WORDS)
    listed: list[Sequence[str]] = [analyzer(text) if isinstance(text, str) else text for text in texts]
    counts = Counter(word for text in listed for word in text)
    kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    if len(kept) < 2:
        raise DataError(f"{len(kept)} words occur {min_count} times", hint="Give more text, or lower min_count.")
    return Vocabulary(listed, kept, counts)


class WordVectors:
    """Words and their vectors.

    >>> vectors = WordVectors.train(texts, WordVectorsConfig(dim=100))
    >>> vectors.neighbours("paris", 5)
    >>> vectors.analogy("man", "king", "woman")    # man is to king as woman is to ...

    Args:
        words: distinct.
        vectors: float32 (V, D).
    """

    def __init__(self, words: Sequence[str], vectors: Floats) -> None:
        if vectors.ndim != 2 or len(vectors) != len(words):
            raise DataError(f"{len(words):,} words and vectors {vectors.shape}")
        self.words, self.vectors = list(words), np.ascontiguousarray(vectors, dtype=np.float32)
        self._places = {word: place for place, word in enumerate(self.words)}
        if len(self._places) != len(self.words):
            raise DataError("a word stands there twice")
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self._directions = self.vectors / np.maximum(lengths, 1e-12)

    @classmethod
    def train(
        cls,
        texts: Iterable[str] | Iterable[Sequence[str]],
        config: WordVectorsConfig | None = None,
        *,
        threads: int | None = 1,
    ) -> Self:
        """Train on texts, which become lower-case words, or on lists of words taken as they are.

        Args:
            threads: with one, the same texts and seed give the same bytes; None: all processors.

        Raises:
            DataError: no word is frequent enough, or vectors that are not finite.
        """
        config = config or WordVectorsConfig()
        found = vocabulary(texts, config.min_count)
        places = {word: place for place, word in enumerate(found.words)}
        ids = Ragged.from_rows(
            (np.array([places[w] for w in text if w in places], np.uint32) for text in found.texts), np.uint32
        )
        frequencies = np.array([found.counts[word] for word in found.words], dtype=np.float64)
        train = _count_based if config.algorithm == "glove" else _predictive
        vectors = train(ids, frequencies, config, threads or cpu_count())
        if not np.isfinite(vectors).all():
            raise DataError("the vectors are not finite", hint="Lower learning_rate.")
        return cls(found.words, vectors)

    @classmethod
    def distil(cls, encoder: Any, words: Sequence[str], dim: int | None = 256) -> Self:
        """Static vectors of an encoder (as Model2Vec does): each word encoded alone, projected on the principal
        components, and weighted by log(1 + rank), which stands for how much it says (frequent words come first).

        Args:
            encoder: a `SentenceEncoder`.
            words: by falling frequency.
            dim: components that are kept; None: all, unprojected.
        """
        vectors = encoder.encode(list(words), normalize=False).astype(np.float32)
        if dim is not None and dim < vectors.shape[1]:
            centred = vectors - vectors.mean(axis=0)
            components = np.linalg.svd(centred, full_matrices=False)[2][:dim]
            vectors = centred @ components.T
        return cls(words, vectors * np.log1p(np.arange(1, len(words) + 1, dtype=np.float32))[:, None])

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._places

    def __getitem__(self, word: str) -> Floats:
        """(D,)."""
        return self.vectors[self._place(word)]

    def encode(self, texts: Sequence[str], *, normalize: bool = True) -> Floats:
        """Means of the vectors of the texts' words (n, D); zero for a text without any that is known."""
        analyzer = Analyzer(_WORDS)
        means = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            places = [self._places[word] for word in analyzer(text) if word in self._places]
            if places:
                means[row] = self.vectors[places].mean(axis=0)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12) if normalize else means

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """The k words closest to a word by cosine, without itself."""
        return self._closest(self._directions[self._place(word)], {word}, k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """The k words that are to `c` as `b` is to `a`: closest to b - a + c (Mikolov et al. 2013), without these."""
        first, second, third = (self._directions[self._place(word)] for word in (a, b, c))
        wanted = second - first + third
        return self._closest(wanted / max(float(np.linalg.norm(wanted)), 1e-12), {a, b, c}, k)

    def save(self, path: str | Path, *, binary: bool = True) -> None:
        """Write word2vec's format, binary or text."""
        path = Path(path)
        for word in self.words:
            if not word or any(one in word for one in " \n\r\t"):
                raise DataError(
                    f"the word {word!r} cannot be written: the format ends words by white space", where=path
                )
        parts = [f"{len(self)} {self.dim}\n".encode()]
        for word, row in zip(self.words, self.vectors, strict=True):
            numbers = row.astype("<f4").tobytes() if binary else " ".join(repr(float(x)) for x in row).encode()
            parts += (word.encode(), b" ", numbers, b"\n")
        with disk_errors(path):
            write_atomically(path, b"".join(parts))

    @classmethod
    def load(cls, path: str | Path, *, binary: bool = True) -> Self:
        """Read word2vec's format.

        Raises:
            FormatError: a file that is truncated or damaged; says at which word.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise FormatError(f"the file is larger than {_LARGEST_FILE:,} bytes", where=path)
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read this file ({error.strerror})", where=path) from None
        end = data.find(b"\n", 0, 100)
        try:
            count, dim = map(int, data[: max(end, 0)].split())
        except ValueError:
            raise FormatError("its first line is not the numbers of words and components", where=path) from None
        size = 4 * dim if binary else 2 * dim  # at least: a digit and what stands before it
        if count < 0 or dim < 1 or count * (size + 2) > len(data):
            raise FormatError(f"{count:,} words of {dim:,} components do not fit in the file", where=path)
        words, vectors = (_read_binary if binary else _read_text)(data, end + 1, count, dim, path)
        if not np.isfinite(vectors).all():
            word = words[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
            raise FormatError(f"the vector of '{word:.40}' is not finite", where=path)
        return cls(words, vectors)

    def _closest(self, direction: Floats, without: set[str], k: int) -> list[tuple[str, float]]:
        cosines = self._directions @ direction
        found = [
            (self.words[place], float(cosines[place]))
            for place in np.argsort(-cosines, kind="stable")[: k + len(without)]
        ]
        return [(word, cosine) for word, cosine in found if word not in without][:k]

    def _place(self, word: str) -> int:
        if word not in self._places:
            raise DataError(f"'{word:.40}' is not among the {len(self):,} words")
        return self._places[word]


def _predictive(ids: Ragged, frequencies: npt.NDArray[np.float64], config: WordVectorsConfig, threads: int) -> Floats:
    """Skip-gram and CBOW: the input vectors."""
    count, dim = len(frequencies), config.dim
    random = numpy_generator(config.seed, "word-vectors")
    inputs, outputs = _rows(count, dim), _rows(count, dim)
    inputs[:, :dim] = random.uniform(-0.5 / dim, 0.5 / dim, (count, dim))
    shares = frequencies / frequencies.sum()
    keep = np.ones(count)
    if config.subsample:
        keep = np.minimum(1.0, np.sqrt(config.subsample / shares) + config.subsample / shares)  # word2vec.c
    chances_kept = keep.astype(np.float32)
    chances = np.cumsum(shares**_NOISE_POWER)
    noise = np.searchsorted(chances / chances[-1], (np.arange(_NOISE_SIZE) + 0.5) / _NOISE_SIZE).astype(np.uint32)
    with progress("word vectors", config.epochs) as task:
        for epoch in range(config.epochs):
            start, end = (config.learning_rate * max(1e-4, 1 - done / config.epochs) for done in (epoch, epoch + 1))
            _native.train_word_predictions(
                ids.values, ids.offsets, inputs, outputs, dim, chances_kept, noise, config.algorithm == "cbow",
                config.window, config.negatives, start, end, int(random.integers(1 << 62)), threads,
            )  # fmt: skip
            task.advance(1)
    return inputs[:, :dim].copy()


def _count_based(ids: Ragged, frequencies: npt.NDArray[np.float64], config: WordVectorsConfig, threads: int) -> Floats:
    """GloVe: sums of word and context vectors (section 4.2)."""
    count, dim = len(frequencies), config.dim
    random = numpy_generator(config.seed, "word-vectors")
    words, contexts, counts = cooccurrences(ids, count, config.window)
    of_words, of_contexts = _rows(count, dim + 1), _rows(count, dim + 1)
    for matrix in (of_words, of_contexts):
        matrix[:, : dim + 1] = random.uniform(-0.5, 0.5, (count, dim + 1)) / (dim + 1)
    word_squares, context_squares = np.ones_like(of_words), np.ones_like(of_contexts)
    with progress("word vectors", config.epochs) as task:
        for _ in range(config.epochs):
            error = _native.train_word_counts(
                words, contexts, counts, of_words, of_contexts, word_squares, context_squares, dim, config.count_limit,
                config.count_power, config.learning_rate, int(random.integers(1 << 62)), threads,
            )  # fmt: skip
            task.advance(1, error=error)
    return of_words[:, :dim] + of_contexts[:, :dim]


def _rows(count: int, dim: int) -> Floats:
    return np.zeros((count, -(-dim // _LINE) * _LINE), dtype=np.float32)


def _read_binary(data: bytes, place: int, count: int, dim: int, path: Path) -> tuple[list[str], Floats]:
    words: list[str] = []
    vectors = np.empty((count, dim), dtype=np.float32)
    for row in range(count):
        while data[place : place + 1] == b"\n":
            place += 1
        end = data.find(b" ", place, place + _LONGEST_WORD)
        if end < 0 or end + 1 + 4 * dim > len(data):
            raise FormatError(f"it ends or is damaged at word {row + 1:,} of {count:,}", where=path)
        words.append(_word(data[place:end], row, path))
        vectors[row] = np.frombuffer(data, "<f4", dim, end + 1)
        place = end + 1 + 4 * dim
    return words, vectors


def _read_text(data: bytes, place: int, count: int, dim: int, path: Path) -> tuple[list[str], Floats]:
    words: list[str] = []
    vectors = np.empty((count, dim), dtype=np.float32)
    lines = data[place:].split(b"\n")
    for row in range(count):
        columns = lines[row].rstrip().rsplit(b" ", dim) if row < len(lines) else []
        try:
            if len(columns) != dim + 1:
                raise ValueError
            vectors[row] = [float(column) for column in columns[1:]]
        except ValueError:
            raise FormatError(f"line {row + 2:,} is no word with {dim:,} numbers", where=path) from None
        words.append(_word(columns[0], row, path))
    return words, vectors


def _word(data: bytes, row: int, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FormatError(f"word {row + 1:,} is not UTF-8", where=path) from None

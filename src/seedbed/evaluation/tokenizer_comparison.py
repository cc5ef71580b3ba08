"""Algorithms side by side: each trained at several vocabulary sizes on the same texts, measured on texts held out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from .. import tokenizers
from ..core.console import progress
from ..core.errors import ConfigError, DataError
from ..curation import Corpus
from ..curation.blobs import ReadingConfig
from ..curation.documents import Document, Rejection
from ..curation.readers import read_blob
from ..curation.walking import find_roots, walk
from ..tokenizers import Tokenizer
from ..tokenizers.audit import Fertility, fertility
from ..tokenizers.token_kinds import token_bytes

_HELD_OUT = 10  # every so many-th text is measured on, where the source has no splits of its own
_FEWEST_TEXTS = 50  # of fewer, each is cut at its empty lines
_TIMED_SECONDS = 0.3  # of encoding, at least, for a speed
_TIMED_ROUNDS = 9

Train = Callable[[Sequence[str], int], Tokenizer]


TRAINERS: dict[str, Train] = {
    "bpe": tokenizers.train_bpe,
    "wordpiece": partial(tokenizers.train_wordpiece, lowercase=False),  # lower case would flatter it
    "unigram": tokenizers.train_unigram,
}


@dataclass(frozen=True)
class Trained:
    """One algorithm at one size, measured on held-out text."""

    algorithm: str
    wanted_size: int
    vocab_size: int
    train_seconds: float
    megabytes_per_second: float  # of encoding on one thread, warm: the best of some rounds
    cost: Fertility
    pieces: tuple[str, ...]  # the sentence, cut


@dataclass(frozen=True)
class Overlap:
    """Surface texts that two vocabularies share, over those that either has (Jaccard)."""

    wanted_size: int
    algorithms: tuple[str, str]
    jaccard: float


@dataclass(frozen=True)
class Comparison:
    train_bytes: int
    held_out_bytes: int
    sentence: str
    trained: tuple[Trained, ...]
    overlaps: tuple[Overlap, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_algorithms(
    train: Sequence[str],
    held_out: Sequence[str],
    vocab_sizes: Sequence[int],
    algorithms: Sequence[str] = tuple(TRAINERS),
    *,
    sentence: str | None = None,
) -> Comparison:
    """Train each algorithm at each size on `train`, and measure it on `held_out`.

    Args:
        sentence: to be shown cut; by default the first held-out one of a fitting length.

    Raises:
        ConfigError: an algorithm that is not known, or no size.
        DataError: no words in `held_out`.
    """
    for name in algorithms:
        if name not in TRAINERS:
            raise ConfigError(f"there is no algorithm '{name}'", hint=f"There are: {', '.join(TRAINERS)}.")
    if not vocab_sizes or not algorithms:
        raise ConfigError("nothing to compare", hint="Name one algorithm and one vocabulary size at least.")
    shown = sentence or _sentence(held_out)
    trained: list[Trained] = []
    overlaps: list[Overlap] = []
    with progress("tokenizers", total=len(vocab_sizes) * len(algorithms)) as task:
        for size in vocab_sizes:
            surfaces: dict[str, set[str]] = {}
            for name in algorithms:
                start = time.perf_counter()
                tokenizer = TRAINERS[name](train, size)
                seconds = time.perf_counter() - start
                surfaces[name] = surface_texts(tokenizer)
                trained.append(
                    Trained(
                        name, size, tokenizer.vocab_size, seconds, _speed(tokenizer, held_out),
                        fertility(tokenizer, held_out), tuple(cut(tokenizer, shown)),
                    )
                )  # fmt: skip
                task.advance(1, algorithm=name, size=size)
            overlaps += [
                Overlap(size, pair, jaccard(surfaces[pair[0]], surfaces[pair[1]]))
                for pair in combinations(algorithms, 2)
            ]
    return Comparison(_size(train), _size(held_out), shown, tuple(trained), tuple(overlaps))


def surface_texts(tokenizer: Tokenizer) -> set[str]:
    """The texts of a vocabulary, without the space that some algorithms keep with a word."""
    special = set(tokenizer.special_tokens.values())
    found = set()
    for number in range(tokenizer.vocab_size):
        if tokenizer.id_to_token(number) is not None and number not in special:
            try:
                found.add(token_bytes(tokenizer, number).decode("utf-8").removeprefix(" "))
            except UnicodeDecodeError:
                continue
    return found


def jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / max(len(first | second), 1)


def cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The text as its tokens cut it: each is the text from the end of the one before to its own."""
    _, offsets = tokenizer.encode_with_offsets(text, parse_special=False)
    ends = [0, *(int(end) for _, end in offsets)]
    ends[-1] = len(text)
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def read_splits(source: str | Path) -> tuple[list[str], list[str]]:
    """The texts of a run, a corpus, or a folder or file of text: (to train on, held out).

    Raises:
        DataError: no text in it, or too little to hold some out.
    """
    source = Path(source)
    for folder in (source / "corpus", source):
        if (folder / "train").is_dir() and (folder / "validation").is_dir():
            corpus = Corpus.open(folder)
            return list(corpus.texts("train")), list(corpus.texts("validation"))
    texts = [text for text in _documents(source) if text.strip()]
    if len(texts) < _FEWEST_TEXTS:
        texts = [part for text in texts for part in text.split("\n\n") if part.strip()]
    held_out = texts[_HELD_OUT - 1 :: _HELD_OUT]
    if not held_out:
        raise DataError(f"{len(texts)} texts are too few to hold some out", where=source, hint="Give more text.")
    return [text for place, text in enumerate(texts, 1) if place % _HELD_OUT], held_out


def _documents(source: Path) -> Iterator[str]:
    config = ReadingConfig()
    for blob in walk(find_roots([str(source)]), config.archives):
        if not isinstance(blob, Rejection):
            yield from (piece.text for piece in read_blob(blob, config) if isinstance(piece, Document))


def _speed(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    listed = list(texts)
    best, total = float("inf"), 0.0
    for _ in range(_TIMED_ROUNDS):
        start = time.perf_counter()
        tokenizer.encode_batch(listed, 1, parse_special=False)
        seconds = time.perf_counter() - start
        best, total = min(best, seconds), total + seconds
        if total >= _TIMED_SECONDS:
            break
    return _size(listed) / best / 1e6


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _sentence(texts: Sequence[str]) -> str:
    """The first line of prose that is long enough to show something."""
    for text in texts:
        for line in map(str.strip, text.splitlines()):
            if 60 <= len(line) <= 160 and sum(word.isalpha() for word in line.split()) >= 0.7 * len(line.split()):
                return line
    return next((text.strip()[:120] for text in texts if text.strip()), "")

"""BPE, WordPiece and Unigram trained on one text with vocabularies of one size, measured on text held out.

White space is brought to single spaces first: WordPiece drops it, and would else be praised for what it loses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...core.errors import DataError
from ...evaluation.statistics import Difference, paired_bootstrap
from ...evaluation.tokenizer_comparison import TRAINERS, jaccard, surface_texts
from ...reports import charts, numbers
from ...tokenizers import Tokenizer
from ...tokenizers.audit import Fertility, fertility
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

NAMES = {"bpe": "BPE", "wordpiece": "WordPiece", "unigram": "Unigram"}


class TokenizerKindsSettings(Settings):
    vocab_sizes: tuple[int, ...] = Field((1000, 2000, 4000), min_length=1, description="sizes of the vocabularies")
    train_bytes: int = Field(2_000_000, ge=1, description="of the training split that they are trained on, at most")
    held_out: int = Field(400, ge=2, description="documents of the validation split, at most")


@dataclass(frozen=True)
class Measured:
    """One algorithm at one size: its cost on the held-out texts, tokens of each of them, and its own pieces."""

    algorithm: str
    size: int
    seconds: float
    cost: Fertility
    tokens: npt.NDArray[np.float64]
    pieces: frozenset[str]


def measure(bench: Bench, settings: TokenizerKindsSettings) -> Finding:
    train, held_out = _train(bench, settings.train_bytes), _spaced(bench.texts("validation", settings.held_out))
    if len(held_out) < 2:
        raise DataError("the validation split has too few documents to compare on", hint="Grow from more text.")
    found: list[Measured] = []
    for size in sorted(settings.vocab_sizes):
        for name, trainer in TRAINERS.items():
            bench.advance(f"{NAMES[name]} with {size:,} ids")
            started = time.perf_counter()
            tokenizer = trainer(train, size)
            found.append(measured(NAMES[name], size, tokenizer, held_out, time.perf_counter() - started))
    largest = {one.algorithm: one for one in found if one.size == max(settings.vocab_sizes)}
    bpe, *others = (largest[name] for name in NAMES.values())
    more = {one.algorithm: _more(bpe, one, settings.seed) for one in others}
    fewer = sum(one.low > 0 for one in more.values())
    verdict: Verdict = "holds" if fewer == len(others) else "holds in part" if fewer else "does not hold"
    shared = {
        (a, b): jaccard(set(largest[a].pieces), set(largest[b].pieces)) for a, b in combinations(NAMES.values(), 2)
    }
    (near, most), (far, least) = (pick(shared.items(), key=lambda one: one[1]) for pick in (max, min))
    sentences = (
        f"With {max(settings.vocab_sizes):,} ids BPE makes {bpe.cost['bytes_per_token']:.2f} bytes of held-out text a "
        "token; against BPE " + " and ".join(f"{name} needs {_percent(one)}" for name, one in more.items()) + ".",
        f"{near[0]} and {near[1]} share {most:.0%} of the pieces that either has, {far[0]} and {far[1]} {least:.0%}.",
    )
    rows: list[list[Any]] = [
        [one.algorithm, one.size, one.cost["bytes_per_token"], one.cost["tokens_per_word"],
         _share(one.cost["continued_words"]), numbers.fixed(one.seconds)]
        for one in found
    ]  # fmt: skip
    chart = charts.by_size(
        [{"size": one.size, "bytes": one.cost["bytes_per_token"], "series": one.algorithm} for one in found],
        "bytes", "series", list(NAMES.values()), "ids of the vocabulary", "bytes of text per token",
    )  # fmt: skip
    return Finding(
        verdict, sentences,
        ("Algorithm", "Ids", "Bytes per token", "Tokens per word", "Words cut", "Training, s"), rows,
        [("", chart)],
        {"bpe_bytes_per_token": bpe.cost["bytes_per_token"], "fewer": float(fewer),
         **{f"{name} more": one.mean for name, one in more.items()}},
        "Words cut: share that became several tokens. In brackets above: the 95% interval over held-out documents. Of "
        "BPE’s ids 256 are bytes, so that nothing is unknown to it; of the others’ tokens up to "
        f"{max(one.cost['unknown_share'] for one in found):.1%} are.",
    )  # fmt: skip


def measured(algorithm: str, size: int, tokenizer: Tokenizer, held_out: list[str], seconds: float) -> Measured:
    _, offsets = tokenizer.encode_batch(held_out, parse_special=False).pair()
    tokens = np.array([stop - start for start, stop in pairwise(offsets.tolist())], dtype=np.float64)
    pieces = frozenset(surface_texts(tokenizer))
    return Measured(algorithm, size, seconds, fertility(tokenizer, held_out), tokens, pieces)


def _more(bpe: Measured, other: Measured, seed: int) -> Difference:
    """Tokens of the other above BPE's, as a share of BPE's, with its interval over documents."""
    mean = bpe.tokens.mean()
    return paired_bootstrap(bpe.tokens / mean, other.tokens / mean, seed=seed)


def _percent(one: Difference) -> str:
    mean, low, high = (numbers.percent(value, sign=True) for value in (one.mean, one.low, one.high))
    return f"{mean} tokens [{low}, {high}]"


def _share(share: float | None) -> str:
    return "" if share is None else numbers.percent(share)


def _train(bench: Bench, most: int) -> list[str]:
    kept, size = [], 0
    for text in _spaced(bench.texts("train")):
        if size >= most:
            break
        kept.append(text)
        size += len(text.encode("utf-8"))
    return kept


def _spaced(texts: list[str]) -> list[str]:
    return [spaced for text in texts if (spaced := " ".join(text.split()))]


EXHIBIT = Exhibit(
    question="Does it matter which algorithm cuts a text into tokens?",
    claim="At one size of vocabulary BPE, which merges what occurs most, makes the fewest tokens of unseen text.",
    formula="BPE merges the pair with most occurrences; WordPiece the one with the highest n(ab) / (n(a) n(b)); "
    "Unigram keeps the pieces that maximise Σ log Σ_cuts Π p(piece).",
    source="Sennrich et al. 2016, section 3.2; Schuster and Nakajima 2012; Kudo 2018, section 3.2; Gallé 2019",
    settings=TokenizerKindsSettings,
    measure=measure,
    needs=("corpus",),
)

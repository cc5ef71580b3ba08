"""Relations between words as directions: analogies on the run's own text, before training and after.

Analogies are made of endings that the text itself shows (file, files; return, returned). V words, D width.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...core.errors import DataError
from ...core.randomness import numpy_generator
from ...embeddings import WordVectors, geometry
from ...embeddings.words import WordVectorsConfig
from ...evaluation.statistics import Difference, paired_bootstrap
from ...reports import charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

Floats = npt.NDArray[np.float32]
Pair = tuple[str, str]

ENDINGS = ("s", "ed", "ing", "er", "ly")
UNTRAINED, BASE, SKIPGRAM = "random", "the base model’s embedding", "skip-gram on the same text"
_WORD = re.compile(r"[a-z]+")
_SHORTEST = 3  # letters of a stem
_FEWEST = 4  # pairs of an ending


class EmbeddingGeometrySettings(Settings):
    train_bytes: int = Field(8_000_000, ge=1, description="of the training split that words are counted in, at most")
    min_count: int = Field(8, ge=1, description="occurrences of a word that takes part")
    partners: int = Field(8, ge=1, description="other pairs of its relation that each pair is asked by")
    dim: int = Field(96, ge=2, description="of skip-gram's vectors")
    epochs: int = Field(8, ge=1, description="of skip-gram")


@dataclass(frozen=True)
class Answered:
    """How a set of vectors answers. Each value is of one asked word: the share of its questions answered rightly by the
    offset b - a + c, and by the nearest neighbour of c alone."""

    name: str
    offset: npt.NDArray[np.float64]
    alone: npt.NDArray[np.float64]
    mean_cosine: float
    parallel: float  # mean cosine of two offsets of one ending

    def gain(self, seed: int) -> Difference:
        return paired_bootstrap(self.alone, self.offset, seed=seed)


def measure(bench: Bench, settings: EmbeddingGeometrySettings) -> Finding:
    texts = _texts(bench, settings.train_bytes)
    counts = Counter(word for text in texts for word in text)
    ids = _whole_words(bench, counts, settings.min_count)
    words = sorted(ids, key=lambda word: (-counts[word], word))
    relations = pairs_of(words)
    if sum(map(len, relations.values())) < _FEWEST:
        raise DataError("the text has too few pairs of words with the same ending", hint="Grow from more text.")
    bench.advance(f"{len(words):,} words, {sum(map(len, relations.values())):,} pairs; skip-gram")
    config = WordVectorsConfig(
        dim=settings.dim, min_count=settings.min_count, epochs=settings.epochs, seed=settings.seed
    )  # fmt: skip
    skipgram = WordVectors.train(texts, config)
    table = bench.decoder().embedding.weight.detach().numpy()
    drawn = numpy_generator(settings.seed, "untrained").standard_normal((len(words), table.shape[1]))
    sets = {
        UNTRAINED: drawn.astype(np.float32),
        BASE: table[[ids[word] for word in words]],
        SKIPGRAM: np.stack([skipgram[word] for word in words]),
    }
    found = {
        name: answer(name, WordVectors(words, vectors), relations, settings.partners, settings.seed)
        for name, vectors in sets.items()
    }
    gains = {name: one.gain(settings.seed) for name, one in found.items()}
    learnt = sum(gains[name].low > 0 for name in (BASE, SKIPGRAM))
    verdict: Verdict = "holds" if learnt == 2 else "holds in part" if learnt else "does not hold"
    best = max((BASE, SKIPGRAM), key=lambda name: found[name].offset.mean())
    sentences = (
        f"Asked for {len(found[BASE].offset)} words in {len(relations)} relations, the offset finds "
        + ", ".join(
            f"{one.offset.mean():.0%} in {_PLACE[name]} (the neighbour alone {one.alone.mean():.0%})"
            for name, one in found.items()
        )
        + f"; a guess finds {1 / len(words):.2%}.",
        f"Two offsets of one relation have a mean cosine of {_cosine(found[BASE].parallel)} in the base model and "
        f"{_cosine(found[SKIPGRAM].parallel)} by skip-gram, {_cosine(found[UNTRAINED].parallel)} in random vectors; "
        f"two words one of {_cosine(found[BASE].mean_cosine)}, {_cosine(found[SKIPGRAM].mean_cosine)} and "
        f"{_cosine(found[UNTRAINED].mean_cosine)}.",
    )  # fmt: skip
    rows: list[list[Any]] = [
        [name.capitalize(), numbers.percent(one.offset.mean()), numbers.percent(one.alone.mean()), _told(gains[name]),
         _cosine(one.parallel), _cosine(one.mean_cosine)]
        for name, one in found.items()
    ]  # fmt: skip
    shares = [
        {"set": _SHORT[name], "by": by, "share": float(values.mean())}
        for name, one in found.items()
        for by, values in ((_BY_OFFSET, one.offset), (_ALONE, one.alone))
    ]
    chart = charts.grouped_bars(
        shares, "set", "by", "share", "words found", (_BY_OFFSET, _ALONE), label=lambda one: numbers.percent(one, 0)
    )
    return Finding(
        verdict, sentences,
        ("Vectors", "By the offset", "Neighbour alone", "Gain", "Offsets’ cosine", "Words’ cosine"), rows,
        [("", chart)],
        {"base": float(found[BASE].offset.mean()), "skipgram": float(found[SKIPGRAM].offset.mean()),
         "base_alone": float(found[BASE].alone.mean()), "skipgram_alone": float(found[SKIPGRAM].alone.mean()),
         "random": float(found[UNTRAINED].offset.mean())},
        f"The first answer among {len(words):,} words that are one token each. "
        f"{_examples(sets[best], words, relations)} In brackets: 95% intervals over words.",
    )  # fmt: skip


_BY_OFFSET, _ALONE = "b − a + c", "nearest to c"
_PLACE = {UNTRAINED: "random vectors", BASE: BASE, SKIPGRAM: SKIPGRAM}
_SHORT = {UNTRAINED: "random", BASE: "base model", SKIPGRAM: "skip-gram"}


def pairs_of(words: list[str]) -> dict[str, list[Pair]]:
    """Relation to its pairs (stem, stem with the ending), the commonest stems first; relations of enough pairs."""
    known = set(words)
    found = {
        ending: [(word, word + ending) for word in words if len(word) >= _SHORTEST and word + ending in known]
        for ending in ENDINGS
    }
    return {ending: pairs for ending, pairs in found.items() if len(pairs) >= _FEWEST}


def answer(
    name: str, vectors: WordVectors, relations: dict[str, list[Pair]], partners: int, seed: int
) -> Answered:  # fmt: skip
    """Each pair c : d is asked for d by some other pairs a : b of its relation."""
    offset, alone, parallel = [], [], []
    for ending, pairs in relations.items():
        random = numpy_generator(seed, "analogies", ending)
        for place, (c, d) in enumerate(pairs):
            others = [one for one in range(len(pairs)) if one != place]
            chosen = [pairs[one] for one in random.permutation(others)[:partners]]
            offset.append(np.mean([vectors.analogy(a, b, c)[0][0] == d for a, b in chosen]))
            near = [word for word, _ in vectors.neighbours(c, 3)]
            alone.append(np.mean([next(word for word in near if word not in (a, b)) == d for a, b in chosen]))
        steps = np.stack([vectors[b] / np.linalg.norm(vectors[b]) - vectors[a] / np.linalg.norm(vectors[a])
                          for a, b in pairs])  # fmt: skip
        parallel.append(geometry.mean_cosine(steps))
    return Answered(
        name, np.array(offset), np.array(alone), geometry.mean_cosine(vectors.vectors), float(np.mean(parallel))
    )  # fmt: skip


def _texts(bench: Bench, most: int) -> list[list[str]]:
    kept, size = [], 0
    for text in bench.corpus.texts("train"):
        if size >= most:
            break
        size += len(text)
        kept.append(_WORD.findall(text.lower()))
    return kept


def _whole_words(bench: Bench, counts: Counter[str], least: int) -> dict[str, int]:
    """Words of small letters that are one token after a space: word to id."""
    listed = sorted(word for word, count in counts.items() if count >= least)
    encoded = bench.tokenizer.encode_batch([f" {word}" for word in listed], parse_special=False)
    return {word: int(ids[0]) for word, ids in zip(listed, encoded, strict=True) if len(ids) == 1}


def _examples(vectors: Floats, words: list[str], relations: dict[str, list[Pair]]) -> str:
    found = WordVectors(words, vectors)
    ending, pairs = max(relations.items(), key=lambda one: len(one[1]))
    (a, b), (c, _) = pairs[0], pairs[1]
    return f"For example “{a}” is to “{b}” as “{c}” to “{found.analogy(a, b, c)[0][0]}” (-{ending})."


def _cosine(number: float) -> str:
    return numbers.fixed(round(number, 2) + 0.0)  # no minus before a zero


def _told(one: Difference) -> str:
    return f"{one.mean:+.0%} [{one.low:+.0%}, {one.high:+.0%}]".replace("-", "−")


EXHIBIT = Exhibit(
    question="Does training put relations between words into directions?",
    claim="b − a + c lies nearest to the word that is to c as b is to a, and more often than c’s own neighbours would "
    "make it.",
    formula="d* = argmax over words not among a, b, c of cos(x, b − a + c).",
    source="Mikolov et al. 2013 (regularities), section 4; the check by neighbours alone: Linzen 2016, section 4",
    settings=EmbeddingGeometrySettings,
    measure=measure,
    needs=("corpus", "tokenizer", "base"),
)

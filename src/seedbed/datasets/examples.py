"""What encoders learn from: a query and texts, of which the first answers it, or how well each does.

From a file of JSON lines, or made from documents without anyone's labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.errors import DataError
from ..core.randomness import numpy_generator
from .jsonl import Row, Rows, read_rows
from .pairs import Pair
from .sentences import split_sentences

Form = Literal["pairs", "scored", "distilled"]

_QUERY = ("query", "anchor", "question", "sentence1")
_TEXT = ("text", "positive", "answer", "document", "sentence2")
_SHORTEST = 4  # words of a sentence that stands for a query
_KEPT = 0.1  # share of the queries whose sentence stays in the text (Lee et al. 2019, section 9.2: so that words count)


@dataclass(frozen=True)
class Example:
    """A query with texts. Without scores the first answers it and the others, hard negatives, do not.

    With one score (a person's, say) it is how alike query and text are; with as many as texts, they are a teacher's.
    `document` is what may not stand twice in a batch, `group` where hard neighbours come from.
    """

    query: str
    texts: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    document: str = ""
    group: str = ""


def read_examples(path: str | Path) -> Rows:
    """Rows of a JSONL file as `query`, `texts` and `scores` (None, or one a text).

    A row has a query ("query", "anchor", "question" or "sentence1") and a text ("text", "positive", "answer",
    "document" or "sentence2"); it may have "negative" (a text) or "negatives" (a list), and "score" (a number) or
    "scores" (one for the text and for each negative).

    Raises:
        DataError: the file cannot be read or no row can be used.
    """
    return read_rows(path, _parse)


def examples_of(rows: Iterable[Row]) -> list[Example]:
    """Examples of `read_examples`' rows; a document is a text that answers."""
    return [Example(row["query"], row["texts"], row["scores"], document=row["texts"][0]) for row in rows]


def _parse(row: Row) -> Row:
    query, text = _first(row, _QUERY), _first(row, _TEXT)
    negatives = row.get("negatives", [row["negative"]] if "negative" in row else [])
    if not isinstance(negatives, list) or not all(isinstance(one, str) and one.strip() for one in negatives):
        raise ValueError("the negatives are not texts")
    texts = (text, *negatives)
    scores = row.get("scores", row.get("score"))
    if scores is not None and not isinstance(scores, list):
        scores = [scores]
    if scores is not None:
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in scores):
            raise ValueError("a score is no number")
        if not all(abs(one) < float("inf") for one in scores):
            raise ValueError("a score is not finite")
        if len(scores) != len(texts):
            raise ValueError(f"{len(scores)} scores for {len(texts)} texts")
    return {"query": query, "texts": texts, "scores": None if scores is None else tuple(map(float, scores))}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise ValueError(f"none of {', '.join(names)} is a text")


def form_of(examples: Sequence[Example]) -> Form:
    """What the examples' scores are.

    Raises:
        DataError: they are not all of one form.
    """
    forms = Counter[Form](
        "pairs" if one.scores is None else "scored" if len(one.texts) == 1 else "distilled" for one in examples
    )
    if len(forms) != 1:
        found = ", ".join(f"{count:,} {form}" for form, count in forms.most_common()) or "none"
        raise DataError(f"the examples are of several forms ({found})", hint="Train on one form at a time.")
    return next(iter(forms))


def from_pairs(pairs: Iterable[Pair]) -> list[Example]:
    return [Example(pair.query, (pair.text,), document=pair.document, group=pair.group) for pair in pairs]


def inverse_cloze(documents: Iterable[Mapping[str, Any]], *, seed: int = 0, each: int = 2) -> list[Example]:
    """Up to `each` sentences a document, drawn at random, to find the rest of it by (Lee et al. 2019, section 4)."""
    random = numpy_generator(seed, "inverse-cloze")
    found: list[Example] = []
    for document in documents:
        sentences = split_sentences(document["text"])
        usable = [place for place, sentence in enumerate(sentences) if len(sentence.split()) >= _SHORTEST]
        if len(sentences) < 2:
            continue
        for place in random.permutation(usable)[:each].tolist():
            stays = random.random() < _KEPT
            rest = sentences if stays else [*sentences[:place], *sentences[place + 1 :]]
            found.append(
                Example(sentences[place], (" ".join(rest),), document=document["id"], group=document["source"])
            )
    return found


def themselves(documents: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Each sentence of the documents, once, as its own answer, made another by dropout (SimCSE: Gao et al. 2021)."""
    sentences = dict.fromkeys(
        sentence
        for document in documents
        for sentence in split_sentences(document["text"])
        if len(sentence.split()) >= _SHORTEST
    )
    return [Example(sentence, (sentence,), document=sentence) for sentence in sentences]

"""One batch of pieces after another through all that can be decided without the rest of the corpus.

What comes out is an Arrow table with a row for each piece: the text as it was read, the text that would be kept, every
score, and the first rule that refuses it. Rows do not depend on each other, so any worker may judge any batch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from .addresses import AddressList, address_of
from .config import CurationConfig
from .decontamination import Decontaminator
from .dedup import text_digest
from .documents import Document, Piece, Rejection, reject, row_of_document, row_of_rejection
from .filters import SCORE_NAMES, Broken, Measured, decide, measure, rules_of
from .language import identify_language, known_language
from .perplexity import PerplexityModel
from .pii import mask_personal_data
from .presets import preset_named
from .quality import QualityModel
from .splits import draw
from .words import WordList

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 512, 4 << 20
DIGEST_BYTES = 16  # of sha256: two texts share them with probability 2^-128

Batch = tuple[list[Piece], Measured | None]  # pieces, and the scores of the documents among them if they are known


@functools.cache
def judged_schema() -> pa.Schema:
    """
    id, source, title, metadata, text: as read. rule, detail, value, threshold: of what refuses the document before any
        comparison with others, null where nothing does.
    measured: it has scores, as all have but what could not be read.
    kept: the text that stays, null where it is `text`. digest, draw: of its texts before and after personal data went;
        null where a rule that comes before exact duplicates refuses it.
    personal_data: JSON, counts by kind.
    """
    import pyarrow as pa

    return pa.schema(
        [
            *((name, pa.string()) for name in ("id", "source", "title", "metadata", "text", "rule", "detail")),
            ("value", pa.float64()),
            ("threshold", pa.float64()),
            ("measured", pa.bool_()),
            ("kept", pa.string()),
            ("language", pa.string()),
            ("digest", pa.binary(DIGEST_BYTES)),
            ("draw", pa.uint64()),
            ("personal_data", pa.string()),
            ("dropped_lines", pa.int64()),
            *((name, pa.float64()) for name in SCORE_NAMES),
        ]
    )


def batches_of(pieces: Iterable[Piece]) -> Iterator[Batch]:
    batch: list[Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch, None
            batch, characters = [], 0
    if batch:
        yield batch, None


class Judge:
    """Keeps or rejects documents; it remembers nothing.

    Args:
        threads: of the native scores.
    """

    def __init__(self, config: CurationConfig, threads: int = 1) -> None:
        preset = preset_named(config.preset)
        self._config, self._lines, self._threads = config, preset.lines, threads
        self._rules = rules_of(config.preset, config.rules)
        self._kinds = config.personal_data.resolve(preset.personal_data)
        self._banned = WordList(_read_lines(config.banned_words)) if config.banned_words else None
        self._addresses = AddressList(_read_lines(config.banned_addresses)) if config.banned_addresses else None
        self._perplexity = PerplexityModel.load(config.perplexity_model) if config.perplexity_model else None
        self._quality = QualityModel.load(config.quality_model) if config.quality_model else None
        self._evaluation = Decontaminator.open(config.decontamination)

    def judge(self, pieces: Sequence[Piece], known: Measured | None = None) -> pa.Table:
        """A row of `judged_schema` for each piece. `known` are scores of the documents among them."""
        import pyarrow as pa

        documents = [piece for piece in pieces if isinstance(piece, Document)]
        measured = self._measure(documents) if known is None else known
        verdicts = self._verdicts(documents, measured)
        rows = [next(verdicts) if isinstance(piece, Document) else _fault(piece) for piece in pieces]
        scores = np.full((len(pieces), len(SCORE_NAMES)), np.nan)
        scores[[row for row, piece in enumerate(pieces) if isinstance(piece, Document)]] = measured.scores
        schema = judged_schema()
        first = len(schema) - len(SCORE_NAMES)
        arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in list(schema)[:first]]
        arrays += [pa.array(np.ascontiguousarray(column)) for column in scores.T]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _measure(self, documents: Sequence[Document]) -> Measured:
        measured = measure([document.text for document in documents], self._lines, self._threads)
        if self._perplexity is not None:
            measured.scores[:, SCORE_NAMES.index("perplexity")] = self._perplexity.perplexities(measured.texts)
        told = [identify_language(text) for text in measured.texts]
        measured.scores[:, SCORE_NAMES.index("language_score")] = [probability for _, probability in told]
        languages = [known_language(*one, text) for one, text in zip(told, measured.texts, strict=True)]
        return replace(measured, languages=languages)

    def _verdicts(self, documents: Sequence[Document], measured: Measured) -> Iterator[dict[str, Any]]:
        decided = decide(measured.scores, self._rules)
        banned = self._banned.count(measured.texts) if self._banned else [0] * len(documents)
        quality = self._quality.score(measured.texts).tolist() if self._quality else [1.0] * len(documents)
        found = self._evaluation.find(measured.texts) if self._evaluation else [None] * len(documents)
        for row, document in enumerate(documents):
            text, language = measured.texts[row], measured.languages[row]
            refused = self._refuse(document, text, language, decided[row], banned[row], quality[row])
            if refused is not None:
                yield {**row_of_rejection(refused), "measured": True, "language": language}
            else:
                yield self._stay(document, text, language, found[row], int(measured.dropped_lines[row]))

    def _refuse(
        self, document: Document, text: str, language: str, broken: Broken | None, banned: int, quality: float
    ) -> Rejection | None:
        """What the rules that come before exact duplicates say."""
        if not document.text.strip():
            return reject(document, "empty", "no text is left")
        listed = self._addresses.find(address_of(document.metadata)) if self._addresses else None
        if listed is not None:
            return reject(document, "banned_address", f"'{listed}' is on the list of addresses")
        if broken is not None:
            return reject(document, broken.rule, broken.detail, broken.value, broken.bound)
        if not text:
            return reject(document, "empty", "no line is left")
        wanted = self._config.languages
        if wanted is not None and language and language not in wanted:
            return reject(document, "language", f"in '{language}'")
        if banned > self._config.max_banned_words:
            return reject(document, "banned_words", "words of the list", banned, self._config.max_banned_words)
        if quality < self._config.min_quality:
            detail = "the probability of being good: below the bound"
            return reject(document, "quality", detail, quality, self._config.min_quality)
        return None

    def _stay(
        self, document: Document, text: str, language: str, item: tuple[str, float] | None, dropped_lines: int
    ) -> dict[str, Any]:
        """The row of a document that goes on, unless evaluation sets or personal data speak against it."""
        refused: Rejection | None = None
        counts: dict[str, int] = {}
        digest = text_digest(text)
        if item is not None:
            detail, bound = f"holds words of evaluation item {item[0]}", self._config.decontamination.overlap
            refused = reject(document, "contaminated", detail, item[1], bound)
        elif self._kinds:
            masked, found = mask_personal_data(text, self._kinds)
            counts = dict(found)
            if found and self._config.personal_data.action == "drop":
                kinds = ", ".join(f"{kind} ({count})" for kind, count in found.items())
                refused = reject(document, "personal_data", f"holds {kinds}", found.total(), 0)
            text = masked
        row = row_of_document(document, language) if refused is None else row_of_rejection(refused)
        last = text_digest(text) if counts else digest
        return {
            **row,
            "language": language,
            "measured": True,
            "kept": None if text == document.text else text,
            "digest": digest[:DIGEST_BYTES],
            "draw": draw(last, self._config.split.seed),
            "personal_data": json.dumps(counts) if counts else None,
            "dropped_lines": dropped_lines,
        }


def _fault(rejection: Rejection) -> dict[str, Any]:
    return {**row_of_rejection(rejection), "measured": False}


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"this list cannot be read ({error})", where=path) from None

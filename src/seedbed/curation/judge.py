"""One batch of documents after another through all that can be decided without the rest of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.devices import cpu_count
from ..core.errors import DataError
from .account import Account
from .config import CurationConfig
from .decontamination import Decontaminator
from .dedup import ExactDuplicates, text_digest
from .documents import Document, Rejection, reject
from .filters import Broken, Measured, decide, measure, rules_of
from .language import detect_language
from .pii import mask_personal_data
from .presets import preset_named
from .quality import QualityModel
from .words import WordList

Judged = tuple[Document, str] | Rejection  # a document that stays, with its language


class Judge:
    """Keeps or rejects documents, in order; what it remembers are the digests of exact duplicates."""

    def __init__(self, config: CurationConfig, account: Account) -> None:
        preset = preset_named(config.preset)
        self._config, self._account, self._lines = config, account, preset.lines
        self._rules = rules_of(config.preset, config.rules)
        self._kinds = config.personal_data.resolve(preset.personal_data)
        self._seen = ExactDuplicates() if config.deduplicate else None
        self._banned = _read_words(config.banned_words) if config.banned_words else None
        self._quality = QualityModel.load(config.quality_model) if config.quality_model else None
        self._evaluation = Decontaminator.open(config.decontamination)

    def measure(self, documents: Sequence[Document]) -> Measured:
        return measure([document.text for document in documents], self._lines, cpu_count())

    def judge(self, documents: Sequence[Document], measured: Measured) -> list[Judged]:
        """What becomes of each document."""
        decided = decide(measured.scores, self._rules)
        banned = self._banned.count(measured.texts) if self._banned else [0] * len(documents)
        quality = self._quality.score(measured.texts).tolist() if self._quality else [1.0] * len(documents)
        found = self._evaluation.find(measured.texts) if self._evaluation else [None] * len(documents)
        verdicts: list[Judged] = []
        for row, document in enumerate(documents):
            verdict = self._one(document, measured.texts[row], decided[row], banned[row], quality[row], found[row])
            if not isinstance(verdict, Rejection):
                self._account.dropped_lines += int(measured.dropped_lines[row])
            verdicts.append(verdict)
        return verdicts

    def _one(
        self,
        document: Document,
        text: str,
        broken: Broken | None,
        banned: int,
        quality: float,
        item: tuple[str, float] | None,
    ) -> Judged:
        if not document.text.strip():
            return reject(document, "empty", "no text is left")
        if broken is not None:
            return reject(document, broken.rule, broken.detail, broken.value, broken.bound)
        if not text:
            return reject(document, "empty", "no line is left")
        language = detect_language(text)
        wanted = self._config.languages
        if wanted is not None and language and language not in wanted:
            return reject(document, "language", f"in '{language}'")
        if banned > self._config.max_banned_words:
            return reject(document, "banned_words", "words of the list", banned, self._config.max_banned_words)
        if quality < self._config.min_quality:
            detail = "the probability of being good: below the bound"
            return reject(document, "quality", detail, quality, self._config.min_quality)
        if self._seen is not None:
            first = self._seen.first_with(text_digest(text), document.id)
            if first is not None:
                return reject(document, "exact_duplicate", f"the same text as {first}")
        if item is not None:
            detail, bound = f"holds words of evaluation item {item[0]}", self._config.decontamination.overlap
            return reject(document, "contaminated", detail, item[1], bound)
        if self._kinds:
            masked, counts = mask_personal_data(text, self._kinds)
            self._account.personal_data.update(counts)
            if counts and self._config.personal_data.action == "drop":
                kinds = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
                return reject(document, "personal_data", f"holds {kinds}", counts.total(), 0)
            text = masked
        return (document if text == document.text else replace(document, text=text)), language


def _read_words(path: str) -> WordList:
    try:
        return WordList(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"this word list cannot be read ({error})", where=path) from None

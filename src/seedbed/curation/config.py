"""The configuration of curation."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from ..core.config import Config
from ..core.errors import ConfigError
from .blobs import ReadingConfig
from .decontamination import DecontaminationConfig
from .filters import rules_of
from .mixing import MixingConfig
from .near_duplicates import NearDuplicateConfig
from .pii import PersonalDataConfig
from .splits import SplitConfig

FILE_KEYS = ("banned_words", "banned_addresses", "perplexity_model", "quality_model")


class CurationConfig(Config):
    """
    Attributes:
        preset: set of quality rules and steps, see presets.PRESETS.
        rules: bounds on top of the preset's, `{"min_characters": 20}`; null switches a rule off.
        languages: codes of the languages to keep, ("en", "de"); null keeps all. What cannot be told stays.
        banned_words: file with a word or phrase a line; documents with more than `max_banned_words` of them go.
        max_banned_words: how many occurrences a document may have.
        banned_addresses: file of domains, addresses and words (see addresses); documents that have a `url` on it go.
        perplexity_model: file of a perplexity.PerplexityModel, which the rules min_perplexity and max_perplexity need.
        quality_model: file of a quality.QualityModel; documents below `min_quality` go.
        min_quality: least probability of being good.
        deduplicate: whether of exactly equal texts only the first is kept.
        near_duplicates: how texts that are nearly equal are found, and what is done with them.
        repeated_line_characters: lines of at least so many characters that occur again, in whatever document, are kept
            only where they come first; null keeps all.
        repeated_substring_bytes: stretches of at least so many bytes that occur again are kept only where they come
            first; null keeps all. Texts are compared within windows of `substring_window_bytes`.
        substring_window_bytes: text that is sorted at a time, which takes about ten times as much memory.
        decontamination: evaluation sets whose items must not be in the corpus.
        personal_data: what is masked, or drops its document.
        mixing: how much of each source or language the training split takes.
        shuffle: whether the training split is in a random order, the same for any order of the sources. A shuffled
            corpus cannot be decided anew, so shuffle last: `curate redecide CORPUS -o shuffle=true`.
        max_document_characters: longer documents are cut into sections; null keeps them whole.
        reading: how sources are read.
        split: how documents are divided. Sections are divided one by one, so that one long file gives all three
            splits; neighbouring sections of one file may then lie in different ones.
    """

    preset: str = "prose"
    rules: dict[str, float | None] = Field(default_factory=dict)
    languages: tuple[str, ...] | None = None
    banned_words: str | None = None
    max_banned_words: int = Field(default=0, ge=0)
    banned_addresses: str | None = None
    perplexity_model: str | None = None
    quality_model: str | None = None
    min_quality: float = Field(default=0.5, ge=0, le=1)
    deduplicate: bool = True
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig()
    repeated_line_characters: int | None = Field(default=None, ge=1)
    repeated_substring_bytes: int | None = Field(default=None, ge=32)
    substring_window_bytes: int = Field(default=64 << 20, ge=1 << 10, lt=1 << 31)
    decontamination: DecontaminationConfig = DecontaminationConfig()
    personal_data: PersonalDataConfig = PersonalDataConfig()
    mixing: MixingConfig = MixingConfig()
    shuffle: bool = False
    max_document_characters: int | None = Field(default=20_000, ge=200)
    reading: ReadingConfig = ReadingConfig()
    split: SplitConfig = SplitConfig()

    def files(self) -> tuple[str, ...]:
        """What the configuration reads besides the sources."""
        named = (*(getattr(self, name) for name in FILE_KEYS), *self.decontamination.sets)
        return tuple(path for path in named if path is not None)

    @field_validator("rules")
    @classmethod
    def _known_rules(cls, rules: dict[str, float | None]) -> dict[str, float | None]:
        try:
            rules_of("none", rules)
        except ConfigError as error:
            raise ValueError(error.sentence()) from None
        return rules

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        bounded = [name for name in ("min_perplexity", "max_perplexity") if self.rules.get(name) is not None]
        if bounded and self.perplexity_model is None:
            raise ValueError(f"the rule {bounded[0]} needs a perplexity_model (train one: curate perplexity)")
        return self

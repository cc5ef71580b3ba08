"""Training of a unigram language model: words are counted as texts stream by, then pieces are learnt from the counts.

The mechanism is native/tokenizer/unigram_train.cpp, which begins with the pieces of unigram_seeds.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError
from .byte_fallback import BYTE_NAMES
from .metaspace import MARK, Metaspace, SpaceDecoder
from .normalizers import UnicodeForm
from .specification import AddedToken, Specification
from .tokenizer import Roles, Tokenizer
from .unigram_model import Unigram
from .word_counts import DEFAULT_MEMORY, Cut, WordCounts, count_words


def metaspace_cut(normalization: str | None = "NFKC", whitespace_split: bool = True) -> Cut:
    """How `train_unigram` cuts texts into words, for counting apart from training.

    Raises:
        ConfigError: an unknown normalization.
    """
    if normalization is not None and normalization not in UnicodeForm.NAMES:
        raise ConfigError(f"unknown normalization {normalization!r}", hint=f"Known: {', '.join(UnicodeForm.NAMES)}.")
    normalizer = None if normalization is None else UnicodeForm(normalization).native()
    return Cut(
        _native.metaspace_words(normalizer, MARK.encode(), whitespace_split),
        {"metaspace": {"normalization": normalization, "whitespace_split": whitespace_split}},
    )


def train_unigram(
    texts: Iterable[str],
    vocab_size: int = 32000,
    special_tokens: Sequence[str] = ("<s>", "</s>"),
    threads: int | None = None,
    *,
    normalization: str | None = "NFKC",
    whitespace_split: bool = True,
    memory_bytes: int = DEFAULT_MEMORY,
    **settings: Any,
) -> Tokenizer:
    """Train a Unigram tokenizer (Kudo, 2018) by SentencePiece's method and with its defaults.

    Args:
        texts: read once, in batches; not kept.
        vocab_size: unknown, special and byte tokens included. A small corpus may yield fewer.
        special_tokens: get the ids behind the unknown token, which is 0.
        threads: the result does not depend on it. None: all processors.
        normalization: "NFC", "NFD", "NFKC", "NFKD", or None to take text as it is.
        whitespace_split: white space of any kind and length is one space, as in SentencePiece. With False each space
            counts, and line ends and tabs are characters like others: any text comes back as it was.
        memory_bytes: for counting; different words are then held in memory.
        settings: of `train_unigram_on_counts`.

    Raises:
        ConfigError: as `train_unigram_on_counts`.
        DataError: no text at all, or text with a lone surrogate.
    """
    cut = metaspace_cut(normalization, whitespace_split)
    UnigramSettings(vocab_size, tuple(special_tokens), **settings)
    counts = count_words(texts, cut, threads, memory_bytes=memory_bytes)
    return train_unigram_on_counts(counts, vocab_size, special_tokens, threads, **settings)


@dataclass(frozen=True)
class UnigramSettings:
    """What training is asked for.

    Raises:
        ConfigError: `vocab_size` has no room for the special tokens, these are empty or repeated, or a setting is
            out of its range.
    """

    vocab_size: int
    special_tokens: tuple[str, ...]
    unknown_token: str = "<unk>"
    byte_fallback: bool = False  # characters that are no piece become their bytes, of which each has a token
    character_coverage: float = 0.9995  # the share of the text whose characters become pieces
    max_piece_length: int = 16  # characters
    seed_size: int = 1_000_000  # substrings to begin with
    shrinking_factor: float = 0.75  # the share of the pieces that each round keeps
    em_rounds: int = 2  # between two rounds

    @property
    def first(self) -> list[str]:
        """The tokens that are not learnt, by id."""
        return [self.unknown_token, *self.special_tokens, *(BYTE_NAMES if self.byte_fallback else ())]

    def __post_init__(self) -> None:
        first = self.first
        for index, token in enumerate(first):
            if not token or token in first[:index]:
                raise ConfigError(f"special token {token!r} is {'given twice' if token else 'empty'}")
        if self.vocab_size <= len(first):
            raise ConfigError(
                f"vocab_size {self.vocab_size} is too small: {len(first)} special and byte tokens need {len(first) + 1}"
            )
        for name, allowed, fits in (
            ("character_coverage", "above 0 and up to 1", 0 < self.character_coverage <= 1),
            ("max_piece_length", "from 1 to 512", 1 <= self.max_piece_length <= 512),
            ("seed_size", "from 1 to 2^31", 1 <= self.seed_size <= 1 << 31),
            ("shrinking_factor", "between 0 and 1", 0 < self.shrinking_factor < 1),
            ("em_rounds", "from 1 to 100", 1 <= self.em_rounds <= 100),
        ):
            if not fits:
                raise ConfigError(f"{name} {getattr(self, name)} is not {allowed}")


def train_unigram_on_counts(
    counts: WordCounts,
    vocab_size: int = 32000,
    special_tokens: Sequence[str] = ("<s>", "</s>"),
    threads: int | None = None,
    *,
    eos_token: str | None = None,
    pad_token: str | None = None,
    chat_template: str | None = None,
    **settings: Any,
) -> Tokenizer:
    """`train_unigram` on words that were counted before, by the cut of `metaspace_cut`.

    Args:
        eos_token: the last special token if not given.
        settings: of `UnigramSettings`.

    Raises:
        ConfigError: the words were cut otherwise, `vocab_size` has no room for all that must be in it, or a setting is
            out of its range.
    """
    wanted = UnigramSettings(vocab_size, tuple(special_tokens), **settings)
    cut = counts.cut.get("metaspace")
    if not isinstance(cut, dict) or counts.cut != metaspace_cut(**cut).description:
        raise ConfigError(
            f"the words were cut by {counts.cut}, and Unigram needs those of a Metaspace",
            hint="Count with metaspace_cut().",
        )
    first = wanted.first
    try:
        learnt, scores = _native.train_unigram(
            counts.words,
            vocab_size - len(first),
            wanted.seed_size,
            wanted.max_piece_length,
            wanted.character_coverage,
            wanted.shrinking_factor,
            wanted.em_rounds,
            threads or cpu_count(),
        )
    except ValueError as error:
        raise ConfigError(
            f"vocab_size {vocab_size} is too small: {error} beside {len(first)} special and byte tokens",
            hint="Raise it, or lower character_coverage.",
        ) from None
    names = [piece.decode("utf-8").replace(" ", MARK) for piece in learnt]
    reserved = set(first)
    pieces = [(token, 0.0) for token in first]
    # So few digits are read back to the last bit by any reader, that of `tokenizers` included.
    rounded = scores.round(12).tolist()
    pieces += [(name, score) for name, score in zip(names, rounded, strict=True) if name not in reserved]
    model = Unigram(
        pieces,
        0,
        wanted.byte_fallback,
        UnicodeForm(cut["normalization"]) if cut["normalization"] else None,
        Metaspace(whitespace_split=cut["whitespace_split"]),
        SpaceDecoder(joins_bytes=wanted.byte_fallback),
    )
    added = tuple(AddedToken(token, number) for number, token in enumerate(first[: 1 + len(special_tokens)]))
    eos = eos_token or (special_tokens[-1] if special_tokens else None)
    roles = Roles(eos, pad_token, unk_token=wanted.unknown_token, chat_template=chat_template)
    return Tokenizer(Specification(model, added=added), roles)

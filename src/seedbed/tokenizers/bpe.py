"""Training of byte-level BPE: words are counted as texts stream by, then merges are learnt from the counts.

The mechanism is native/tokenizer/merge_trainer.cpp; tests/tokenizers/naive_bpe.py is the same in plain Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import _native
from ..core.errors import ConfigError, DataError
from .bpe_model import ByteLevelBPE
from .bytelevel import BYTE_OF_CHARACTER, BYTE_ORDER, is_byte_level, to_bytes, to_characters
from .pretokenizers import PreTokenizer
from .specification import AddedToken, Specification
from .tokenizer import Roles, Tokenizer
from .word_counts import DEFAULT_MEMORY, WordCounts, count_words, pattern_cut


def train_bpe(
    texts: Iterable[str],
    vocab_size: int = 32768,
    pattern: str = "llama3",
    special_tokens: Sequence[str] = ("<|endoftext|>",),
    min_frequency: int = 2,
    threads: int | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY,
    eos_token: str | None = None,
    pad_token: str | None = None,
    chat_template: str | None = None,
) -> Tokenizer:
    """Train a byte-level BPE tokenizer: the same merges and ids as `tokenizers`' BpeTrainer gives.

    Args:
        texts: read once, in batches; not kept.
        vocab_size: special tokens and the 256 bytes included. A small corpus may yield fewer tokens.
        pattern: how text is cut into words: "gpt2", "cl100k", "llama3", "o200k", "qwen2", or any regular expression in
            the dialect of `tokenizers`, whose matches and what lies between them are words (slower by far).
        special_tokens: get the first ids. Text that spells one is trained on as ordinary text.
        min_frequency: a pair must occur this often to be merged.
        threads: for counting; the result does not depend on it. None: all processors.
        memory_bytes: what counting may take; past it words go to temporary files.
        eos_token: the first special token if not given.

    Raises:
        ConfigError: `vocab_size` has no room for the bytes and special tokens, a pattern that cannot be used, or
            special tokens that are empty, repeated or come out of the merges themselves.
        DataError: no text at all, or text with a lone surrogate.
    """
    cut = pattern_cut(pattern)
    _check_settings(vocab_size, list(special_tokens), min_frequency)
    return train_bpe_on_counts(
        count_words(texts, cut, threads, memory_bytes=memory_bytes),
        vocab_size,
        special_tokens,
        min_frequency,
        eos_token=eos_token,
        pad_token=pad_token,
        chat_template=chat_template,
    )


def train_bpe_on_counts(
    counts: WordCounts,
    vocab_size: int = 32768,
    special_tokens: Sequence[str] = ("<|endoftext|>",),
    min_frequency: int = 2,
    *,
    eos_token: str | None = None,
    pad_token: str | None = None,
    chat_template: str | None = None,
) -> Tokenizer:
    """`train_bpe` on words that were counted before, with the pattern by which they were cut.

    Raises:
        ConfigError: as `train_bpe`, and for counts whose words were cut for another algorithm.
        DataError: the words have more than 2^62 bytes together.
    """
    if counts.cut.keys() != {"pattern"}:
        raise ConfigError("these counts were not made for BPE", hint="Count with --pattern.")
    pre_tokenizer = PreTokenizer.of_pattern(counts.cut["pattern"])
    specials = list(special_tokens)
    _check_settings(vocab_size, specials, min_frequency)
    try:
        tokens, flat = _native.train_bpe(counts.words, vocab_size, _special_bytes(specials), BYTE_ORDER, min_frequency)
    except OverflowError as error:
        raise DataError(str(error)) from None
    names = specials + [to_characters(token) for token in tokens[len(specials) :]]
    merges = flat.reshape(-1, 3)
    clash = merges[merges[:, 2] < len(specials)]
    if len(clash):
        raise ConfigError(f"special token {specials[clash[0, 2]]!r} comes out of the merges of ordinary text")
    model = ByteLevelBPE(
        vocabulary={name: number for number, name in enumerate(names)},
        merges=[(names[left], names[right]) for left, right in merges[:, :2].tolist()],
        pre_tokenizer=pre_tokenizer,
    )
    specification = Specification(
        model,
        added=tuple(AddedToken(content, number) for number, content in enumerate(specials)),
    )
    roles = Roles(eos_token or (specials[0] if specials else None), pad_token, chat_template=chat_template)
    return Tokenizer(specification, roles)


def _check_settings(vocab_size: int, specials: list[str], min_frequency: int) -> None:
    _check_specials(specials)
    needed = len(set(specials) | BYTE_OF_CHARACTER.keys())
    if vocab_size < needed:
        raise ConfigError(
            f"vocab_size {vocab_size} is too small: the 256 bytes and {len(specials)} special tokens need {needed}"
        )
    if min_frequency < 0:
        raise ConfigError(f"min_frequency {min_frequency} is negative")


def _check_specials(specials: list[str]) -> None:
    for index, token in enumerate(specials):
        if not token:
            raise ConfigError("a special token is empty")
        if token in specials[:index]:
            raise ConfigError(f"special token {token!r} is given twice")
        if token in BYTE_OF_CHARACTER:
            raise ConfigError(f"special token {token!r} is the name of a byte", hint="Choose a longer one.")


def _special_bytes(specials: list[str]) -> list[bytes]:
    """Keys under which the trainer finds a merge that spells a special token; others get bytes that no text has."""
    return [to_bytes(token) if is_byte_level(token) else b"\xff\xff%d" % i for i, token in enumerate(specials)]

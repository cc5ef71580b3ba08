"""Training of WordPiece: words are counted as BERT cuts them, then a vocabulary of pieces is learnt from the counts.

The mechanism is native/tokenizer/wordpiece_train.cpp; tests/tokenizers/naive_wordpiece.py is the same in plain Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .. import _native
from ..core.errors import ConfigError, DataError
from . import normalizers
from .json_reader import JsonReader
from .normalizers import BertNormalizer, Normalizer
from .post_processor import PostProcessor
from .specification import AddedToken, Specification
from .tokenizer import Roles, Tokenizer
from .word_counts import DEFAULT_MEMORY, Cut, WordCounts, count_words
from .wordpiece_model import WordPiece

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PREFIX = "##"


def bert_cut(normalizer: Normalizer | None = None) -> Cut:
    """Words as BERT cuts them: at white space and around punctuation, normalised (None: as they are)."""
    native = None if normalizer is None else normalizer.native()
    return Cut(_native.bert_words(native), {"bert": normalizers.to_json(normalizer)})


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int = 30522,
    lowercase: bool = True,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    threads: int | None = None,
    *,
    strip_accents: bool | None = None,
    handle_chinese_chars: bool = True,
    limit_alphabet: int = 1000,
    initial_alphabet: Iterable[str] = (),
    memory_bytes: int = DEFAULT_MEMORY,
) -> Tokenizer:
    """Train a BERT tokenizer: the vocabulary that `tokenizers`' WordPieceTrainer learns.

    Its trainer numbers the characters that continue words (`##e`) in an order that changes from run to run, and with it
    the choice between equally frequent pairs. Here they are numbered by code point, and of equally frequent characters
    at the limit of the alphabet the smaller ones stay: the result is a function of the data alone.

    Args:
        texts: read once, in batches; not kept.
        vocab_size: special tokens and characters included. A small corpus may yield fewer tokens.
        lowercase: text is normalised to lower case and, unless `strip_accents` is False, without accents.
        special_tokens: get the first ids; `[UNK]` must be one. If `[CLS]` and `[SEP]` are too, they stand around texts.
        min_frequency: a pair must occur this often to be merged.
        threads: for counting; the result does not depend on it. None: all processors.
        limit_alphabet: so many of the most frequent characters are kept; words with others become `[UNK]`.
        initial_alphabet: characters that are kept whether they occur or not.
        memory_bytes: what counting may take; past it words go to temporary files.

    Raises:
        ConfigError: `vocab_size` has no room for the characters and special tokens, or special tokens that are empty,
            repeated, lack `[UNK]` or come out of ordinary text.
        DataError: no text at all, or text with a lone surrogate.
    """
    normalizer = BertNormalizer(
        handle_chinese_chars=handle_chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )
    _check_settings(vocab_size, list(special_tokens), min_frequency, limit_alphabet)
    return train_wordpiece_on_counts(
        count_words(texts, bert_cut(normalizer), threads, memory_bytes=memory_bytes),
        vocab_size,
        special_tokens,
        min_frequency,
        limit_alphabet=limit_alphabet,
        initial_alphabet=initial_alphabet,
    )


def train_wordpiece_on_counts(
    counts: WordCounts,
    vocab_size: int = 30522,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    *,
    limit_alphabet: int = 1000,
    initial_alphabet: Iterable[str] = (),
) -> Tokenizer:
    """`train_wordpiece` on words that were counted before, with the normaliser by which they were cut.

    Raises:
        ConfigError: as `train_wordpiece`, and for counts whose words were cut for another algorithm.
        DataError: the words have more than 2^62 characters together.
    """
    if counts.cut.keys() != {"bert"}:
        raise ConfigError("these counts were not made for WordPiece")
    specials = list(special_tokens)
    _check_settings(vocab_size, specials, min_frequency, limit_alphabet)
    try:
        pieces, alphabet, clash = _native.train_wordpiece(
            counts.words,
            vocab_size,
            min_frequency,
            limit_alphabet,
            [special.encode("utf-8", errors="surrogatepass") for special in specials],
            np.array([ord(character) for character in initial_alphabet], dtype=np.uint32),
            _PREFIX.encode(),
        )
    except OverflowError as error:
        raise DataError(str(error)) from None
    if clash >= 0:
        raise ConfigError(
            f"special token {specials[clash]!r} comes out of ordinary text", hint="Write it in brackets, as [CLS]."
        )
    if alphabet > vocab_size:
        raise ConfigError(
            f"vocab_size {vocab_size} is too small: {len(specials)} special tokens and the characters at the start of "
            f"words and inside them need {alphabet}",
            hint="Give a larger vocab_size or a smaller limit_alphabet.",
        )
    vocabulary = {piece.decode("utf-8", errors="surrogatepass"): number for number, piece in enumerate(pieces)}
    model = WordPiece(
        vocabulary,
        normalizer=normalizers.from_json(counts.cut["bert"], JsonReader(Path("counts"))),
    )
    around = PostProcessor()
    if {"[CLS]", "[SEP]"} <= set(specials):
        around = PostProcessor.template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", vocabulary)
    added = tuple(AddedToken(content, number) for number, content in enumerate(specials))
    specification = Specification(model, added, around)
    roles = Roles(pad_token="[PAD]" if "[PAD]" in specials else None, unk_token="[UNK]")
    return Tokenizer(specification, roles)


def _check_settings(vocab_size: int, specials: list[str], min_frequency: int, limit_alphabet: int) -> None:
    for index, token in enumerate(specials):
        if not token:
            raise ConfigError("a special token is empty")
        if token in specials[:index]:
            raise ConfigError(f"special token {token!r} is given twice")
    if "[UNK]" not in specials:
        raise ConfigError("special_tokens lack '[UNK]', which stands for words with unknown characters")
    if vocab_size < len(specials):
        raise ConfigError(f"vocab_size {vocab_size} is too small for {len(specials)} special tokens")
    for name, value in (("min_frequency", min_frequency), ("limit_alphabet", limit_alphabet)):
        if value < 0:
            raise ConfigError(f"{name} {value} is negative")

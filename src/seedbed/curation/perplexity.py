"""Perplexity under a small n-gram model of good text: what CCNet sorts pages by (Wenzek et al. 2020).

The model is an interpolated modified Kneser-Ney 5-gram over the pieces of a BPE tokenizer, both learnt from examples.
Text unlike them costs more; what is very cheap is often boilerplate. Where to cut depends on the model and the
corpus: training prints what good text costs that was held out.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.artifacts import write_atomically
from ..core.errors import DataError, FormatError

if TYPE_CHECKING:
    from ..models.ngram import NGramModel
    from ..tokenizers import Tokenizer

_ORDER = 5
_VOCABULARY = 8192
_FEWEST_CHARACTERS = 10_000
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class PerplexityModel:
    """A tokenizer and an n-gram model over its tokens."""

    tokenizer: Tokenizer
    ngrams: NGramModel

    @classmethod
    def train(cls, texts: Sequence[str], vocab_size: int = _VOCABULARY, order: int = _ORDER) -> PerplexityModel:
        """
        Raises:
            DataError: too little text.
        """
        from ..models.ngram import NGramModel
        from ..tokenizers import train_bpe
        from ..tokenizers.chat import END_OF_TEXT

        if sum(map(len, texts)) < _FEWEST_CHARACTERS:
            raise DataError(f"less than {_FEWEST_CHARACTERS:,} characters of good text", hint="Give more of it.")
        tokenizer = train_bpe(texts, vocab_size=vocab_size, special_tokens=(END_OF_TEXT,))
        end = tokenizer.token_to_id(END_OF_TEXT)
        assert end is not None
        stream, _ = _stream(tokenizer, texts, end, order)
        return cls(tokenizer, NGramModel(stream, tokenizer.vocab_size, end, order))

    def perplexities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """exp of the mean cost of a character in nats, (n,); NaN for empty texts.

        Of a character and not of a token: noise falls into many short tokens, each of which is cheap.
        """
        stream, own = _stream(self.tokenizer, texts, self.ngrams.end_of_text_id, self.ngrams.order)
        costs = np.append(0.0, np.cumsum(-np.log(self.ngrams.probabilities(stream))))
        starts, stops = own.T
        with np.errstate(invalid="ignore"):
            return np.exp((costs[stops] - costs[starts]) / np.array([len(text) for text in texts]))

    def save(self, path: str | Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer.save(Path(folder) / _TOKENIZER)
            encoded = np.frombuffer((Path(folder) / _TOKENIZER).read_bytes(), np.uint8)
        file = io.BytesIO()
        np.savez(file, tokenizer=encoded, **self.ngrams.arrays())  # type: ignore[arg-type]
        write_atomically(Path(path), file.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> PerplexityModel:
        """
        Raises:
            FormatError: not a file that `save` wrote.
        """
        from ..models.ngram import NGramModel
        from ..tokenizers import Tokenizer

        try:
            with np.load(path, allow_pickle=False) as arrays, tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / _TOKENIZER
                file.write_bytes(arrays["tokenizer"].tobytes())
                tokenizer, ngrams = Tokenizer.load(file), NGramModel.from_arrays(arrays)
            if ngrams.vocab_size != tokenizer.vocab_size or not 0 <= ngrams.end_of_text_id < tokenizer.vocab_size:
                raise ValueError("tokenizer and n-grams are not of one vocabulary")
            return cls(tokenizer, ngrams)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, FormatError) as error:
            raise FormatError(
                f"no perplexity model ({error})", where=path, hint="Train one: curate perplexity."
            ) from None


def _stream(
    tokenizer: Tokenizer, texts: Sequence[str], end: int, order: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All tokens with as many ends before each text as a context holds, and where each text starts and stops (n, 2)."""
    batch = tokenizer.encode_batch(list(texts), threads=1, parse_special=False)
    gap = max(order - 1, 1)
    sizes = np.diff(batch.offsets)
    starts = np.cumsum(np.append(0, sizes[:-1] + gap)) + gap if len(sizes) else np.zeros(0, np.int64)
    stream = np.full(int(sizes.sum()) + gap * len(sizes), end, np.int64)
    # Each token moves by the gaps of its own and all earlier texts.
    stream[np.arange(len(batch.ids)) + np.repeat(gap * np.arange(1, len(sizes) + 1), sizes)] = batch.ids
    return stream, np.stack([starts, starts + sizes], axis=1)

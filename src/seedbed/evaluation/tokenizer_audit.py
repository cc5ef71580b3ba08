"""The audit of a tokenizer, with all that is at hand: texts, parallel text, the model and the tokens it was trained on.

V ids of the vocabulary, C model width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.artifacts import MANIFEST
from ..core.console import show
from ..core.errors import ArtifactError, DataError
from ..curation import Corpus
from ..datasets.shards import FILE_NAME, TokenShards
from ..models import Decoder, Encoder, load_model
from ..tokenizers import Tokenizer
from ..tokenizers.audit import (
    Fertility,
    GlitchReport,
    Parity,
    TokenKinds,
    fertility,
    glitch_tokens,
    parity,
    token_kinds,
)
from ..tokenizers.token_kinds import token_text
from ..tokenizers.tokenizer import TOKENIZER_FILE
from .token_probing import token_prober

_EXAMPLES = 12  # tokens that the prompts show being copied


@dataclass(frozen=True)
class Materials:
    """What there is to audit a tokenizer with; paths are read when they are needed."""

    tokenizer: Path
    corpus: Path | None = None
    model: Path | None = None
    tokens: Path | None = None  # shards of the training split
    texts: tuple[Path, ...] = ()

    @classmethod
    def found(cls, path: str | Path) -> Materials:
        """What lies at `path`: a tokenizer.json, a directory with one (and perhaps a model), or a run.

        Raises:
            ArtifactError: none of these.
        """
        path = Path(path)
        if path.is_file() or (path / TOKENIZER_FILE).exists():
            return cls(path, model=path if (path / "model.safetensors").exists() else None)
        if (path / "tokenizer" / TOKENIZER_FILE).exists():
            corpus, base, tokens = (
                path / name if (path / name / MANIFEST).exists() else None for name in ("corpus", "base", "tokens")
            )
            return cls(path / "tokenizer", corpus, base, tokens)
        raise ArtifactError(
            f"neither a run nor a directory with a {TOKENIZER_FILE}", where=path, hint="Train a tokenizer first."
        )

    def named_texts(self) -> Iterator[tuple[str, Iterable[str]]]:
        if self.corpus is not None:
            corpus = Corpus.open(self.corpus)
            yield from ((split, corpus.texts(split)) for split in ("train", "validation"))
        for path in self.texts:
            try:
                yield path.name, [path.read_text(encoding="utf-8")]
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})", where=path) from None
            except UnicodeDecodeError as error:
                raise DataError(f"is not UTF-8 ({error.reason} at byte {error.start:,})", where=path) from None

    def token_counts(self, tokenizer: Tokenizer) -> NDArray[np.int64] | None:
        """How often each id stands in the training tokens, (V,)."""
        if self.tokens is None:
            return None
        folder = self.tokens if (self.tokens / FILE_NAME).exists() else self.tokens / "train"
        shards = TokenShards.open(folder, tokenizer.fingerprint)
        return np.bincount(shards.tokens, minlength=tokenizer.vocab_size)


@dataclass(frozen=True)
class TokenizerAudit:
    """What was found. `counts`: int64 (V,), how often each id was trained on, where that is known."""

    tokenizer: Tokenizer
    kinds: TokenKinds
    fertility: Mapping[str, Fertility] = field(default_factory=dict)
    parity: Parity | None = None
    glitches: GlitchReport | None = None
    counts: NDArray[np.int64] | None = None

    @cached_property
    def hardly_trained(self) -> int | None:
        """Ids that were to be ranked and that training never met."""
        return None if self.glitches is None else self.glitches.never_occurred

    def to_json(self) -> dict[str, Any]:
        return {
            "tokenizer": {
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint,
                "algorithm": type(self.tokenizer.specification.model).__name__,
            },
            "ids": self.kinds.to_json(),
            "fertility": dict(self.fertility),
            "parity": None if self.parity is None else self.parity.to_json(),
            "glitches": None if self.glitches is None else self.glitches.to_json(),
        }


def audit_tokenizer(
    materials: Materials,
    parallel: Mapping[str, str] | None = None,
    *,
    reference: str = "English",
    share: float = 0.02,
    indicator: str | None = None,
    threads: int | None = None,
) -> TokenizerAudit:
    """Audit a tokenizer with everything that `materials` holds.

    Args:
        parallel: the same text by language.
        share, indicator: of under-trained ids, as `glitch_tokens` takes them.
    """
    tokenizer = Tokenizer.load(materials.tokenizer)
    kinds = token_kinds(tokenizer, threads)
    costs = {name: fertility(tokenizer, texts, threads) for name, texts in materials.named_texts()}
    languages = None if parallel is None else parity(tokenizer, parallel, reference, threads)
    counts = materials.token_counts(tokenizer)
    glitches = None
    if materials.model is not None:
        glitches = audit_model(
            materials.model, tokenizer, counts, kinds=kinds, share=share, indicator=indicator
        )  # fmt: skip
    return TokenizerAudit(tokenizer, kinds, costs, languages, glitches, counts)


def audit_model(
    path: Path,
    tokenizer: Tokenizer,
    counts: NDArray[np.int64] | None = None,
    *,
    kinds: TokenKinds | None = None,
    share: float = 0.02,
    indicator: str | None = None,
) -> GlitchReport:
    """The under-trained ids of the model in a Hugging Face directory; a decoder is prompted to say them.

    Raises:
        DataError: the model has no embedding of tokens, or fewer rows than the tokenizer has ids.
    """
    model = load_model(path)
    if not isinstance(model, Decoder | Encoder):
        raise DataError(f"a {type(model).__name__} cannot be audited", where=path, hint="Take a decoder or an encoder.")
    rows = model.embedding.weight.detach().float().numpy()
    head = None
    verify = None
    if isinstance(model, Decoder):
        if model.lm_head is not None:
            head = model.head_weight.detach().float().numpy()
        examples = _examples(tokenizer, counts)
        if len(examples) >= 2:
            verify = token_prober(model.eval(), tokenizer, examples)
        else:
            show("The vocabulary has no whole words to make prompts of: under-trained ids are not verified.")
    return glitch_tokens(
        tokenizer, rows, head, counts=counts, indicator=indicator, share=share, verify=verify, kinds=kinds
    )  # fmt: skip


def _examples(tokenizer: Tokenizer, counts: NDArray[np.int64] | None) -> list[int]:
    """Ids of whole words that training saw often: the commonest, or where counts are unknown the first of the
    vocabulary, which BPE orders by frequency."""
    size, special = tokenizer.vocab_size, set(tokenizer.special_tokens.values())
    order = range(size) if counts is None else map(int, np.argsort(-counts, kind="stable"))
    chosen = []
    for number in order:
        if tokenizer.id_to_token(number) is None or number in special:
            continue
        text = token_text(tokenizer, number)
        if text[:1] == " " and len(text) > 3 and text[1:].isascii() and text[1:].isalpha():
            chosen.append(number)
            if len(chosen) == _EXAMPLES:
                break
    return chosen

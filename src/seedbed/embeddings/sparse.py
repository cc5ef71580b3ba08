"""Learned sparse vectors (SPLADE: Formal et al. 2021): how much every token of the vocabulary matters to a text.

B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..core.errors import ConfigError, FormatError
from ..core.json_files import read_json
from ..core.ragged import Ragged
from ..models import MaskedLanguageModel, load_model
from .compute import batches_of_like_lengths, run_batches
from .layout import ABOUT, checked_length, read_length, read_modules, read_tokenizer, write_layout
from .sentence import fingerprint, pad, tokenize, warn_of_truncation

_POOLING = "1_SpladePooling"
_MODULES = ("MLMTransformer", "SpladePooling")


@dataclass(frozen=True)
class SparseVectors:
    """Row i has the weights `weights[i]` (float32, positive) at the token ids `tokens[i]` (uint32, rising)."""

    tokens: Ragged
    weights: Ragged
    vocab_size: int

    def __len__(self) -> int:
        return len(self.tokens)

    def dense(self) -> npt.NDArray[np.float32]:
        """(n, V)."""
        rows = np.zeros((len(self), self.vocab_size), dtype=np.float32)
        rows[np.repeat(np.arange(len(self)), self.tokens.lengths), self.tokens.values] = self.weights.values
        return rows


class SparseEncoder:
    """Texts to sparse vectors over the tokenizer's vocabulary, whose products say how well they match.

    A text's own words count, and so do words that the model would put in their place: that is what it finds and BM25
    does not.

    Args:
        model: predicts masked tokens.
        pooling: of the tokens' weights, "max" (SPLADE v2) or "sum" (v1).
        max_length: tokens that are read.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        tokenizer: Any,
        max_length: int | None = None,
        *,
        pooling: Literal["max", "sum"] = "max",
    ) -> None:
        self.max_length = checked_length(model.config, tokenizer, max_length)
        if pooling not in ("max", "sum"):
            raise ConfigError(f"pooling '{pooling}' is unknown (known: max, sum)")
        self.model, self.tokenizer, self.pooling = model.eval(), tokenizer, pooling
        self.truncated = 0

    @property
    def device(self) -> torch.device:
        return self.model.encoder.embedding.weight.device

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a vector."""
        return fingerprint([self.tokenizer.fingerprint, self.max_length, self.pooling], self.model.state_dict())

    def encode(self, texts: Sequence[str] | str, *, batch_tokens: int = 1024, top: int | None = None) -> SparseVectors:
        """Sparse vectors, in the order of the texts.

        Warns (TruncationWarning) when texts were cut; `truncated` counts them over all calls.

        Args:
            top: keep the so many largest weights of each text; None: all.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        tokens, longer = tokenize(self.tokenizer, listed, self.max_length)
        if longer:
            self.truncated += longer
            warn_of_truncation(longer, len(listed), self.max_length)
        found: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = [(np.zeros(0), np.zeros(0))] * len(listed)

        def encode(places: npt.NDArray[np.int64]) -> None:
            weights_BV = self.embed(*pad([tokens[place] for place in places], self.device)).float().cpu().numpy()
            for place, weights in zip(places, weights_BV, strict=True):
                ids = np.flatnonzero(weights)
                if top is not None and len(ids) > top:
                    ids = np.sort(ids[np.argsort(-weights[ids], kind="stable")[:top]])
                found[place] = ids, weights[ids]

        run_batches(encode, list(batches_of_like_lengths([len(row) for row in tokens], batch_tokens)), self.device)
        return SparseVectors(
            Ragged.from_rows((ids for ids, _ in found), np.uint32),
            Ragged.from_rows((weights for _, weights in found), np.float32),
            self.model.config.vocab_size,
        )

    def embed(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Weights (B, V), log(1 + max(0, logit)) pooled over the tokens, with gradient if there is one."""
        # The logarithm rises, so it may wait until a maximum is found.
        logits_BTV = self.model(ids_BT, mask_BT).relu()
        if mask_BT is not None:
            logits_BTV = logits_BTV * mask_BT[:, :, None]
        return logits_BTV.amax(dim=1).log1p() if self.pooling == "max" else logits_BTV.log1p().sum(dim=1)

    def explain(self, text: str, k: int = 20) -> list[tuple[str, float]]:
        """The k tokens that weigh most in a text: what it matches on."""
        vectors = self.encode(text)
        order = np.argsort(-vectors.weights[0], kind="stable")[:k]
        return [
            (str(self.tokenizer.id_to_token(int(vectors.tokens[0][place]))), float(vectors.weights[0][place]))
            for place in order
        ]

    def save(self, directory: str | Path) -> None:
        """Write a directory that `sentence_transformers.SparseEncoder(directory)` opens, with equal vectors."""
        package = "sentence_transformers.sparse_encoder.models"
        files = {
            ABOUT: {
                "model_type": "SparseEncoder",
                "prompts": {},
                "default_prompt_name": None,
                "similarity_fn_name": "dot",
            },
            f"{_POOLING}/config.json": {
                "pooling_strategy": self.pooling,
                "activation_function": "relu",
                "word_embedding_dimension": self.model.config.vocab_size,
            },
        }
        modules = [(path, f"{package}.{kind}") for path, kind in zip(("", _POOLING), _MODULES, strict=True)]
        write_layout(Path(directory), self.model, self.tokenizer, modules, files, self.max_length)

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Any = None) -> Self:
        """Open a directory of sentence-transformers' SparseEncoder.

        Raises:
            FormatError: files are missing or damaged, or ask for what is not computed here.
        """
        directory = Path(directory)
        folder = read_modules(directory, [_MODULES, ("Transformer", "SpladePooling")])[1][1]
        settings = read_json(folder / "config.json")
        pooling = settings.get("pooling_strategy", "max")
        if settings.get("activation_function", "relu") != "relu" or pooling not in ("max", "sum"):
            raise FormatError("its pooling is not log(1 + relu), max or sum", where=folder / "config.json")
        model = load_model(directory)
        if not isinstance(model, MaskedLanguageModel):
            raise FormatError("its model does not predict masked tokens", where=directory)
        tokenizer = read_tokenizer(directory, tokenizer)
        length = read_length(directory, tokenizer, model.config.context_length)
        return cls(model, tokenizer, length, pooling=pooling)

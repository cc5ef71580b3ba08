"""Cross-encoders (Nogueira and Cho 2019): a query and a text are read together, and one score says how well they match.

Slower than comparing vectors, as nothing of a text can be computed before the query is known, and more exact: for
ranking again what a search has found, and as a teacher of faster encoders. Kept as sentence-transformers keeps them.
N pairs, B batch, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.json_files import read_json
from ..core.randomness import torch_generator
from ..models import Encoder, EncoderClassifier, load_model, save_model
from ..tokenizers.roles import CONFIG_FILE
from .compute import batches_of_like_lengths, run_batches, with_weights
from .layout import ABOUT, LENGTH, LISTING, checked_length, read_length, read_tokenizer
from .sentence import fingerprint, pad, warn_of_truncation

Activation = Literal["sigmoid", "identity"]
_ACTIVATIONS = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
}
_INPUTS = "model_input_names"  # key of tokenizer_config.json
_WITHOUT_SEGMENTS = ("PreTrainedTokenizerFast", "TokenizersBackend")  # classes that give no types unless told to


@dataclass(frozen=True)
class TokenPairs:
    """Ids of pairs with what stands between and around the texts, and the types that tell the texts apart."""

    ids: list[npt.NDArray[np.int64]]
    types: list[npt.NDArray[np.int64]] | None  # None: the model is not told

    def at(self, rows: Iterable[int]) -> TokenPairs:
        listed = list(rows)
        return TokenPairs(
            [self.ids[row] for row in listed], None if self.types is None else [self.types[row] for row in listed]
        )


class CrossEncoder:
    """Pairs of texts to scores.

    >>> encoder = CrossEncoder.load("models/reranker")
    >>> scores, places = encoder.rank("how to read a csv file", texts, k=10)

    Args:
        model: with one label.
        max_length: tokens of a pair that are read; the longer text is cut first, which is counted in `truncated` and
            warned about.
        activation: of scores: "sigmoid", between 0 and 1; "identity", logits.
        segments: whether the model is told which tokens are the text's (BERT's token types), if it knows types at all.
        weights: "float32", "bfloat16" or "int8", of the model that scores, as `SentenceEncoder` has them.
    """

    def __init__(
        self,
        model: EncoderClassifier,
        tokenizer: Any,
        max_length: int | None = None,
        *,
        activation: str = "sigmoid",
        segments: bool = True,
        weights: str = "float32",
    ) -> None:
        if model.labels != 1:
            raise ConfigError(f"a cross-encoder gives one score, and this model has {model.labels} labels")
        if activation not in get_args(Activation):
            raise ConfigError(f"activation '{activation}' is unknown (known: {', '.join(get_args(Activation))})")
        self.max_length = checked_length(model.config, tokenizer, max_length)
        self.model, self.tokenizer, self.activation = model.eval(), tokenizer, activation
        self.scoring_model = with_weights(self.model, weights)
        self.segments = segments and model.config.token_types > 1
        self.truncated = 0

    @classmethod
    def from_model(cls, model: Encoder, tokenizer: Any, max_length: int | None = None, seed: int = 0) -> Self:
        """A cross-encoder to be trained: `model`, which becomes a part of it, under a new head."""
        return cls(EncoderClassifier(model, generator=torch_generator(seed, "head")), tokenizer, max_length)

    @property
    def device(self) -> torch.device:
        return self.model.encoder.embedding.weight.device

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a score."""
        settings = [self.tokenizer.fingerprint, self.max_length, self.activation, self.segments]
        return fingerprint(settings, self.model.state_dict())

    def score(
        self, pairs: Sequence[tuple[str, str]], *, activation: str | None = None, batch_tokens: int = 1024
    ) -> npt.NDArray[np.float32]:
        """How well each query and text match: float32 (n,), in the order of the pairs; higher is better.

        Warns (TruncationWarning) when pairs were cut; `truncated` counts them over all calls.

        Args:
            activation: None for the encoder's own.
            batch_tokens: of pairs that are read together, about, with what pads them.
        """
        activation = self.activation if activation is None else activation
        tokens = self.tokenize(pairs)
        scores = np.zeros(len(tokens.ids), dtype=np.float32)

        def score(rows: npt.NDArray[np.int64]) -> None:
            found_B = pair_logits(self.scoring_model, tokens.at(rows), self.device)
            scores[rows] = (found_B.float().sigmoid() if activation == "sigmoid" else found_B.float()).cpu().numpy()

        run_batches(score, list(batches_of_like_lengths([len(row) for row in tokens.ids], batch_tokens)), self.device)
        return scores

    def rank(
        self, query: str, texts: Sequence[str], k: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k best texts (None: all): scores float32 (k,), falling, and places in `texts` int64 (k,). Ties go to the
        earlier text."""
        scores = self.score([(query, text) for text in texts])
        places = np.argsort(-scores, kind="stable")[:k]
        return scores[places], places

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> TokenPairs:
        for row, pair in enumerate(pairs):
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise DataError(f"row {row} is no pair of two texts")
        firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        ids, types = self.tokenizer.encode_pairs(firsts, seconds)
        longer = int((ids.lengths > self.max_length).sum())
        if longer:
            self.truncated += longer
            warn_of_truncation(longer, len(pairs), self.max_length)
            ids, types = self.tokenizer.encode_pairs(firsts, seconds, max_length=self.max_length)
        return TokenPairs(
            [row.astype(np.int64) for row in ids],
            [row.astype(np.int64) for row in types] if self.segments else None,
        )

    def save(self, directory: str | Path) -> None:
        """Write a directory that `sentence_transformers.CrossEncoder(directory)` opens, with equal scores."""
        directory = Path(directory)
        activation = next(name for name, ours in _ACTIVATIONS.items() if ours == self.activation)
        files: dict[str, Any] = {
            LISTING: [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
            LENGTH: {
                "max_seq_length": self.max_length,
                "transformer_task": "sequence-classification",
                "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
                "module_output_name": "scores",
            },
            ABOUT: {
                "model_type": "CrossEncoder",
                "activation_fn": activation,
                "prompts": {},
                "default_prompt_name": None,
            },
        }
        save_model(self.model, directory, self.tokenizer)
        inputs = ["input_ids", *(["token_type_ids"] if self.segments else []), "attention_mask"]
        files[CONFIG_FILE] = read_json(directory / CONFIG_FILE) | {_INPUTS: inputs}
        with disk_errors(directory):
            for name, content in files.items():
                write_atomically(directory / name, (json.dumps(content, indent=2) + "\n").encode())

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Any = None, *, weights: str = "float32") -> Self:
        """Open a cross-encoder's directory of sentence-transformers, or a classifier's of transformers with one label.

        Args:
            weights: see `CrossEncoder`.

        Raises:
            FormatError: files are missing or damaged, or ask for what is not computed here.
        """
        directory = Path(directory)
        if (directory / LISTING).exists() and len(read_json(directory / LISTING, list)) != 1:
            raise FormatError("its modules are more than a classifier", where=directory / LISTING)
        activation = _read_activation(directory)
        model = load_model(directory)
        if not isinstance(model, EncoderClassifier) or model.labels != 1:
            raise FormatError("its model does not give one score for a pair of texts", where=directory)
        tokenizer = read_tokenizer(directory, tokenizer)
        context = model.config.context_length
        length = min(read_length(directory, tokenizer, context), context)
        segments = _reads_segments(directory)
        return cls(model, tokenizer, length, activation=activation, segments=segments, weights=weights)


def _read_activation(directory: Path) -> str:
    """What makes logits scores; files of several versions say it in several places."""
    about = read_json(directory / ABOUT) if (directory / ABOUT).exists() else {}
    config = read_json(directory / "config.json")
    nested = config.get("sentence_transformers")
    named = (
        about.get("activation_fn")
        or (nested.get("activation_fn") if isinstance(nested, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    if named is None:
        return "sigmoid"
    found = _ACTIVATIONS.get(str(named))
    if found is None:
        raise FormatError(f"its scores come by '{named!s:.80}', which is not computed here", where=directory)
    return found


def _reads_segments(directory: Path) -> bool:
    """Whether the tokenizer of transformers that the directory names gives token types."""
    path = directory / CONFIG_FILE
    about = read_json(path) if path.exists() else {}
    inputs = about.get(_INPUTS)
    if isinstance(inputs, list):
        return "token_type_ids" in inputs
    return about.get("tokenizer_class") not in _WITHOUT_SEGMENTS


def pair_logits(model: EncoderClassifier, pairs: TokenPairs, device: torch.device) -> Tensor:
    """Logits (B,) of pairs, with gradient if there is one."""
    types_BT = None if pairs.types is None else pad(pairs.types, device)[0]
    scores_B1: Tensor = model(*pad(pairs.ids, device), types_BT)
    return scores_B1[:, 0]

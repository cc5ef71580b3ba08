"""Sentence encoders: a bidirectional model, a tokenizer and a pooling, kept as sentence-transformers keeps them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.json_files import read_json
from ..core.ragged import Ragged
from ..models import Encoder, load_model, save_model
from .pooling import Pooling, check_pooling, pool

_POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_OTHER_POOLINGS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_MODULES = ("Transformer", "Pooling", "Normalize")


class TruncationWarning(UserWarning):
    """Texts were longer than the encoder reads."""


class SentenceEncoder:
    """Texts to vectors.

    >>> encoder = SentenceEncoder.load("runs/docs/encoder")
    >>> vectors = encoder.encode(["how to read a csv file"])

    Args:
        model: an `Encoder`: `model(ids_BT, mask_BT)` gives hidden states (B, T, C).
        tokenizer: see `seedbed.tokenizers.Tokenizer`.
        max_length: tokens that are read; what is longer is cut, counted in `truncated` and warned about.
        pooling: "mean" | "cls" | "last".
        normalize: whether vectors have length 1 unless a call says otherwise.
    """

    def __init__(
        self,
        model: Encoder,
        tokenizer: Any,
        max_length: int | None = None,
        *,
        pooling: str = "mean",
        normalize: bool = True,
    ) -> None:
        context = model.config.context_length
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_length = context if max_length is None else max_length
        if not 1 <= self.max_length <= context:
            raise ConfigError(f"max_length must be between 1 and the model's context of {context}, not {max_length}")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise DataError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}: they do not "
                "belong together"
            )
        self.pooling: Pooling = check_pooling(pooling)
        self.normalize = normalize
        self.truncated = 0

    @property
    def dim(self) -> int:
        return self.model.config.hidden_size

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a vector: weights, tokenizer, length, pooling, normalisation."""
        settings = [self.tokenizer.fingerprint, self.max_length, self.pooling, self.normalize]
        return fingerprint(settings, self.model.state_dict())

    def encode(
        self, texts: Sequence[str] | str, normalize: bool | None = None, *, batch_size: int = 64
    ) -> npt.NDArray[np.float32]:
        """Vectors (n, dim), in the order of the texts. An empty text is read as the end-of-text token alone.

        Warns (TruncationWarning) when texts were cut; `truncated` counts them over all calls.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        tokens = self.tokenize(listed)
        normalize = self.normalize if normalize is None else normalize
        vectors = np.zeros((len(listed), self.dim), dtype=np.float32)
        order = np.argsort([len(row) for row in tokens], kind="stable")  # like lengths together: little padding
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                ids_BT, mask_BT = pad([tokens[row] for row in rows])
                pooled_BC = self.embed(ids_BT, mask_BT)
                if normalize:
                    pooled_BC = F.normalize(pooled_BC, dim=-1)
                vectors[rows] = pooled_BC.float().cpu().numpy()
        return vectors

    def embed(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Pooled vectors (B, C), not normalised, with gradient if there is one."""
        return embed(self.model, ids_BT, mask_BT, self.pooling)

    def tokenize(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        rows, longer = tokenize(self.tokenizer, texts, self.max_length)
        if longer:
            self.truncated += longer
            warn_of_truncation(longer, len(texts), self.max_length)
        return rows

    def save(self, directory: str | Path) -> None:
        """Write a directory that `sentence_transformers.SentenceTransformer(directory)` opens, with equal vectors."""
        directory = Path(directory)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        if self.normalize:
            modules.append(("2_Normalize", "Normalize"))
        listing = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ]
        pooling = {key: name == self.pooling for name, key in _POOLING_KEYS.items()}
        files = {
            "modules.json": listing,
            "sentence_bert_config.json": {"max_seq_length": self.max_length, "do_lower_case": False},
            "config_sentence_transformers.json": {
                "model_type": "SentenceTransformer",
                "prompts": {},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
            },
            "1_Pooling/config.json": {
                "word_embedding_dimension": self.dim,
                **pooling,
                **dict.fromkeys(_OTHER_POOLINGS, False),
                "include_prompt": True,
            },
        }
        save_model(self.model, directory, self.tokenizer)
        with disk_errors(directory):
            for path, _ in modules[1:]:
                (directory / path).mkdir(exist_ok=True)
            for name, content in files.items():
                write_atomically(directory / name, (json.dumps(content, indent=2) + "\n").encode())

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Any = None) -> Self:
        """Open a sentence-transformers directory.

        Args:
            tokenizer: used in place of the directory's own.

        Raises:
            FormatError: files are missing or damaged, or ask for what is not computed here.
        """
        directory = Path(directory)
        modules = read_json(directory / "modules.json", list)
        kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
        if kinds not in (list(_MODULES[:2]), list(_MODULES)):
            raise FormatError(
                f"its modules are {', '.join(kinds) or 'none'}; supported: {', '.join(_MODULES)}", where=directory
            )
        folder = str(modules[1].get("path", ""))
        if Path(folder).name != folder:
            raise FormatError(f"'{folder:.80}' lies outside the directory", where=directory / "modules.json")
        settings = read_json(directory / folder / "config.json")
        chosen = [name for name, key in _POOLING_KEYS.items() if settings.get(key)]
        if len(chosen) != 1 or any(settings.get(key) for key in _OTHER_POOLINGS):
            raise FormatError(
                "its pooling is not one of mean, cls, last", where=directory / "1_Pooling" / "config.json"
            )
        model = load_model(directory)
        if not isinstance(model, Encoder):
            raise FormatError("its model is no bidirectional encoder", where=directory)
        length = read_json(directory / "sentence_bert_config.json").get("max_seq_length")
        if length is not None and (not isinstance(length, int) or length < 1):
            raise FormatError("max_seq_length is no length", where=directory / "sentence_bert_config.json")
        if tokenizer is None:
            from ..tokenizers import Tokenizer

            tokenizer = Tokenizer.load(directory)
        return cls(model, tokenizer, length, pooling=chosen[0], normalize=len(kinds) == len(_MODULES))


def fingerprint(settings: Sequence[Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 of settings and weights."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Token ids of each text and what stands around it, cut to `max_length`, and how many were cut.

    An empty text with nothing around it is one end-of-text token.
    """
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"row {row} is {type(text).__name__}, not text")
    encoded: Ragged = tokenizer.encode_batch(list(texts), add_special_tokens=True)
    longer = int((encoded.lengths > max_length).sum())
    if longer:
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=True, max_length=max_length)
    nothing = np.array([tokenizer.token_to_id("<|endoftext|>") or 0], dtype=np.int64)
    return [row.astype(np.int64) if len(row) else nothing for row in encoded], longer


def warn_of_truncation(longer: int, texts: int, length: int) -> None:
    """Warn whoever called an encoder's method, which called this."""
    warnings.warn(
        f"{longer:,} of {texts:,} texts are longer than {length} tokens; their ends are not read",
        TruncationWarning,
        stacklevel=4,
    )


def pad(rows: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor | None]:
    """Right-padded ids (B, T) and their mask, which is None where nothing is padded."""
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    if lengths.min() == width:
        return torch.from_numpy(np.stack(rows)), None
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return torch.from_numpy(ids), torch.from_numpy(np.arange(width) < lengths[:, None])


def embed(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor | None, pooling: Pooling = "mean") -> Tensor:
    hidden_BTC = model(ids_BT, mask_BT)
    if mask_BT is None:
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    return pool(hidden_BTC, mask_BT, pooling)

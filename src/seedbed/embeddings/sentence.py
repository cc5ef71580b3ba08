"""Sentence encoders: a bidirectional model, a tokenizer and a pooling, kept as sentence-transformers keeps them."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError, DataError, FormatError
from ..core.json_files import read_json
from ..core.ragged import Ragged
from ..models import Decoder, Encoder, load_model
from .compute import batches_of_like_lengths, run_batches, with_weights
from .layout import ABOUT, checked_length, read_length, read_modules, read_tokenizer, write_layout
from .pooling import Pooling, check_pooling, pool

_POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_POOLING_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}  # sentence-transformers from 6 on
_OTHER_POOLINGS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_POOLING = "1_Pooling"
_MODULES = ("Transformer", "Pooling", "Normalize")
_PACKAGE = __name__.partition(".")[0] + "."
_QUERY_PROMPTS, _DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")


class TruncationWarning(UserWarning):
    """Texts were longer than the encoder reads."""


class SentenceEncoder:
    """Texts to vectors.

    >>> encoder = SentenceEncoder.load("runs/docs/encoder")
    >>> vectors = encoder.encode(["how to read a csv file"])

    Args:
        model: an `Encoder`, or a `Decoder`, whose last norm's output is pooled (best "last").
        tokenizer: see `seedbed.tokenizers.Tokenizer`.
        max_length: tokens that are read; what is longer is cut, counted in `truncated` and warned about.
        pooling: "mean" | "cls" | "last".
        normalize: whether vectors have length 1 unless a call says otherwise.
        prompts: by name, what some encoders want before a text ("query", "document", ...), as instructions.
        default_prompt: name of the one that stands before texts unless a call says otherwise.
        weights: "float32", "bfloat16" or "int8", of `encoding_model`, which reads texts; `model` stays as it is and is
            what is saved. int8 is for CPUs, and with it vectors have a cosine of about 0.9996 with those of float32.
    """

    def __init__(
        self,
        model: Encoder | Decoder,
        tokenizer: Any,
        max_length: int | None = None,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        prompts: Mapping[str, str] | None = None,
        default_prompt: str | None = None,
        weights: str = "float32",
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_length = checked_length(model.config, tokenizer, max_length)
        self.pooling: Pooling = check_pooling(pooling)
        self.normalize, self.prompts, self.weights = normalize, dict(prompts or {}), weights
        self.default_prompt = default_prompt
        self._prompt(default_prompt)
        self.encoding_model = with_weights(self.model, weights)
        self.truncated = 0

    @property
    def dim(self) -> int:
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.model.embedding.weight.device

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a vector: weights, tokenizer, length, pooling, normalisation, prompts."""
        settings = [self.tokenizer.fingerprint, self.max_length, self.pooling, self.normalize, self.prompts]
        settings += [] if self.default_prompt is None else [self.default_prompt]
        return fingerprint(settings, self.model.state_dict())

    @overload
    def encode(
        self,
        texts: Sequence[str] | str,
        normalize: bool | None = None,
        *,
        prompt: str | None = None,
        dim: int | None = None,
        precision: Literal["float32"] = "float32",
        batch_tokens: int = 1024,
    ) -> npt.NDArray[np.float32]: ...

    @overload
    def encode(
        self,
        texts: Sequence[str] | str,
        normalize: bool | None = None,
        *,
        prompt: str | None = None,
        dim: int | None = None,
        precision: Literal["int8", "binary"],
        batch_tokens: int = 1024,
    ) -> npt.NDArray[Any]: ...

    def encode(
        self,
        texts: Sequence[str] | str,
        normalize: bool | None = None,
        *,
        prompt: str | None = None,
        dim: int | None = None,
        precision: str = "float32",
        batch_tokens: int = 1024,
    ) -> npt.NDArray[Any]:
        """Vectors (n, dim), in the order of the texts. An empty text is read as the end-of-text token alone.

        Warns (TruncationWarning) when texts were cut; `truncated` counts them over all calls.

        Args:
            prompt: name of one of `prompts`, put before every text; None: the default one; "": none.
            dim: keep the first so many components, normalised anew: for encoders trained so (Matryoshka).
            precision: "float32"; "int8", components times 127 of vectors of length 1; "binary", their signs, eight to a
                byte, the first in the highest bit: uint8 (n, dim / 8).
            batch_tokens: of texts that are read together, about, with what pads them.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        dim = self._check(dim, precision)
        tokens = self.tokenize(self.prompted(listed, prompt))
        normalize = (self.normalize if normalize is None else normalize) or precision != "float32"
        vectors = np.zeros((len(listed), dim), dtype=np.float32)

        def encode(rows: npt.NDArray[np.int64]) -> None:
            padded = pad([tokens[row] for row in rows], self.device)
            pooled_BC = embed(self.encoding_model, *padded, self.pooling)[:, :dim].float()
            if normalize:
                pooled_BC = F.normalize(pooled_BC, dim=-1)
            vectors[rows] = pooled_BC.cpu().numpy()

        run_batches(encode, list(batches_of_like_lengths([len(row) for row in tokens], batch_tokens)), self.device)
        if precision == "int8":
            return np.rint(vectors * 127).astype(np.int8)
        return np.packbits(vectors > 0, axis=1) if precision == "binary" else vectors

    def encode_queries(self, texts: Sequence[str] | str, normalize: bool | None = None) -> npt.NDArray[np.float32]:
        """`encode` with the prompt of queries, where the encoder has one."""
        return self.encode(texts, normalize, prompt=self.prompt_of(True))

    def encode_documents(self, texts: Sequence[str] | str, normalize: bool | None = None) -> npt.NDArray[np.float32]:
        """`encode` with the prompt of what is searched, where the encoder has one."""
        return self.encode(texts, normalize, prompt=self.prompt_of(False))

    def prompt_of(self, query: bool) -> str | None:
        """Name of the prompt of queries, or of what is searched."""
        names = _QUERY_PROMPTS if query else _DOCUMENT_PROMPTS
        return next((name for name in names if name in self.prompts), None)

    def prompted(self, texts: Sequence[str], prompt: str | None = None) -> list[str]:
        """Texts behind a prompt, by its name as in `encode`."""
        before = self._prompt(prompt)
        return [before + text if isinstance(text, str) else text for text in texts]

    def _check(self, dim: int | None, precision: str) -> int:
        dim = self.dim if dim is None else dim
        if not 1 <= dim <= self.dim:
            raise ConfigError(f"dim must be between 1 and {self.dim}, not {dim}")
        if precision not in ("float32", "int8", "binary"):
            raise ConfigError(f"precision '{precision}' is unknown (known: float32, int8, binary)")
        if precision == "binary" and dim % 8:
            raise ConfigError(f"binary vectors need a dim that is a multiple of 8, not {dim}")
        return dim

    def _prompt(self, name: str | None) -> str:
        name = self.default_prompt if name is None else name
        if not name:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise ConfigError(f"the encoder has no prompt '{name}' (it has: {known})", where="prompt")
        return self.prompts[name]

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
        kinds = [("", "Transformer"), (_POOLING, "Pooling"), ("2_Normalize", "Normalize")][: 3 if self.normalize else 2]
        files = {
            ABOUT: {
                "model_type": "SentenceTransformer",
                "prompts": self.prompts,
                "default_prompt_name": self.default_prompt,
                "similarity_fn_name": "cosine",
            },
            f"{_POOLING}/config.json": {
                "word_embedding_dimension": self.dim,
                **{key: name == self.pooling for name, key in _POOLING_KEYS.items()},
                **dict.fromkeys(_OTHER_POOLINGS, False),
                "include_prompt": True,
            },
        }
        modules = [(path, f"sentence_transformers.models.{kind}") for path, kind in kinds]
        write_layout(Path(directory), self.model, self.tokenizer, modules, files, self.max_length)

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Any = None, *, weights: str = "float32") -> Self:
        """Open a sentence-transformers directory.

        Args:
            tokenizer: used in place of the directory's own.
            weights: see `SentenceEncoder`.

        Raises:
            FormatError: files are missing or damaged, or ask for what is not computed here.
        """
        directory = Path(directory)
        kinds, folders = read_modules(directory, [_MODULES, _MODULES[:2]])
        pooling = _read_pooling(folders[1] / "config.json")
        home = folders[0]  # of the oldest directories a folder of its own
        model = load_model(home)
        if not isinstance(model, Encoder | Decoder):
            raise FormatError("its model gives no hidden states of one text", where=home)
        about = read_json(directory / ABOUT) if (directory / ABOUT).exists() else {}
        prompts = about.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise FormatError("its prompts are not texts by name", where=directory / ABOUT)
        default = about.get("default_prompt_name")
        if default is not None and default not in prompts:
            raise FormatError("its default prompt is none of its prompts", where=directory / ABOUT)
        tokenizer = read_tokenizer(home, tokenizer)
        return cls(
            model,
            tokenizer,
            read_length(home, tokenizer, model.config.context_length),
            pooling=pooling,
            normalize=len(kinds) == len(_MODULES),
            prompts=prompts,
            default_prompt=default,
            weights=weights,
        )


def _read_pooling(path: Path) -> str:
    settings = read_json(path)
    if "pooling_mode" in settings:
        named = settings["pooling_mode"]
        chosen = [_POOLING_NAMES[named]] if isinstance(named, str) and named in _POOLING_NAMES else []
    else:
        chosen = [name for name, key in _POOLING_KEYS.items() if settings.get(key)]
        chosen = [] if any(settings.get(key) for key in _OTHER_POOLINGS) else chosen
    if len(chosen) != 1:
        raise FormatError("its pooling is not one of mean, cls, last", where=path)
    if not settings.get("include_prompt", True):
        raise FormatError("its pooling leaves prompts out", where=path)
    return chosen[0]


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


def around(tokenizer: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Special tokens before and behind every text."""
    plain = tokenizer.encode("a").tolist()
    whole = tokenizer.encode("a", add_special_tokens=True).astype(np.int64)
    start = next((place for place in range(len(whole)) if whole[place : place + len(plain)].tolist() == plain), 0)
    return whole[:start], whole[start + len(plain) :]


def warn_of_truncation(longer: int, texts: int, length: int) -> None:
    """Warn the nearest caller outside of this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{longer:,} of {texts:,} texts are longer than {length} tokens; their ends are not read",
        TruncationWarning,
        stacklevel=level,
    )


def pad(rows: Sequence[npt.NDArray[np.int64]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor | None]:
    """Right-padded ids (B, T) and their mask, which is None where nothing is padded."""
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    if lengths.min() == width:
        return torch.from_numpy(np.stack(rows)).to(device), None
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return torch.from_numpy(ids).to(device), torch.from_numpy(np.arange(width) < lengths[:, None]).to(device)


def embed(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor | None, pooling: Pooling = "mean") -> Tensor:
    """Pooled vectors (B, C) of ids (B, T), padded on the right where the mask is not True (None: nowhere)."""
    hidden_BTC = hidden_states(model, ids_BT, mask_BT)
    if mask_BT is None:
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    return pool(hidden_BTC, mask_BT, pooling)


def hidden_states(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """(B, T, C) of an `Encoder` or a `Decoder`, whose tokens do not look to the right, where the padding is."""
    hidden_BTC: Tensor = model.hidden(ids_BT) if isinstance(model, Decoder) else model(ids_BT, mask_BT)
    return hidden_BTC

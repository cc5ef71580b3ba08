"""Late interaction (ColBERT: Khattab and Zaharia 2020): a vector for every token, kept as PyLate keeps such encoders.

B texts, T tokens, C model width, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.json_files import read_json
from ..core.ragged import Ragged
from ..core.randomness import torch_generator
from ..models import Encoder, load_model
from ..models.weight_files import read_safetensors
from .compute import batches_of_like_lengths, run_batches, with_weights
from .late_interaction import LateInteractionConfig, read_config
from .layout import ABOUT, read_tokenizer, write_layout
from .sentence import around, fingerprint, pad, tokenize, warn_of_truncation
from .token_pooling import pool_tokens

_DENSE, _LINEAR = "1_Dense", "linear.weight"


class MultiVectorEncoder:
    """Texts to one vector of length 1 for each of their tokens.

    >>> encoder = MultiVectorEncoder.load("models/colbert")
    >>> index = MultiVectorIndex(encoder.dim, bits=4)
    >>> index.add(encoder.encode_documents(texts))
    >>> scores, ids = index.search(encoder.encode_queries(["how to read a csv file"]), k=10)

    Args:
        model: an `Encoder`.
        projection: (D, C), applied to hidden states.
        weights: "float32", "bfloat16" or "int8", of `encoding_model`, as `SentenceEncoder` has them.
    """

    def __init__(
        self,
        model: Encoder,
        tokenizer: Any,
        projection: Tensor,
        config: LateInteractionConfig | None = None,
        *,
        weights: str = "float32",
    ) -> None:
        self.config = config or LateInteractionConfig()
        shortest = min(self.config.query_length, self.config.document_length)
        longest = max(self.config.query_length, self.config.document_length)
        if not (shortest >= 4 and longest <= model.config.context_length):
            raise ConfigError(f"query_length and document_length must be between 4 and {model.config.context_length}")
        if projection.shape[1:] != (model.config.hidden_size,):
            raise DataError(f"a projection {tuple(projection.shape)} of a model {model.config.hidden_size} wide")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.encoding_model = with_weights(self.model, weights)
        self.projection = nn.Parameter(projection.detach().clone())
        self.truncated = 0
        self._prefixes = {
            True: self._id(self.config.query_prefix),
            False: self._id(self.config.document_prefix),
        }
        self._skipped = torch.tensor(
            sorted({number for word in self.config.skiplist_words if (number := self._id(word)) is not None}),
            dtype=torch.int64,
        )
        mask_id: int | None = tokenizer.mask_token_id
        self._expansion_id: int | None = tokenizer.eos_token_id if mask_id is None else mask_id
        self._front = len(around(tokenizer)[0])

    @classmethod
    def from_model(
        cls, model: Encoder, tokenizer: Any, dim: int = 128, config: LateInteractionConfig | None = None, seed: int = 0
    ) -> Self:
        """An encoder to be trained: `model` with a projection that preserves products on average."""
        width = model.config.hidden_size
        projection = torch.randn(dim, width, generator=torch_generator(seed, "projection")) * dim**-0.5
        return cls(model, tokenizer, projection, config)

    @property
    def dim(self) -> int:
        return self.projection.shape[0]

    @property
    def device(self) -> torch.device:
        return self.projection.device

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides a vector."""
        settings = [self.tokenizer.fingerprint, self.config.model_dump(mode="json")]
        return fingerprint(settings, {**self.model.state_dict(), "projection": self.projection})

    def parameters(self) -> Iterator[nn.Parameter]:
        """What training changes."""
        yield from self.model.parameters()
        yield self.projection

    def encode_documents(self, texts: Sequence[str], *, batch_tokens: int = 1024, pool_factor: int = 1) -> Ragged:
        """Rows (tokens of a text, D), float32, of length 1, in the texts' order.

        Warns (TruncationWarning) when texts were cut; `truncated` counts them over all calls.

        Args:
            pool_factor: keep one vector for so many tokens, merging those that are closest (`token_pooling`).
        """
        rows = self._encode(texts, False, batch_tokens)
        if pool_factor > 1:
            rows = [pool_tokens(row, pool_factor) for row in rows]
        return _ragged(rows, self.dim)

    def encode_queries(self, texts: Sequence[str], *, batch_tokens: int = 1024) -> Ragged:
        """As `encode_documents`; expanded, each query has `query_length` vectors."""
        return _ragged(self._encode(texts, True, batch_tokens), self.dim)

    def tokenize(self, texts: Sequence[str], query: bool) -> list[npt.NDArray[np.int64]]:
        """Token ids of each text with what stands around it and its prefix, queries not yet expanded."""
        prefix = self._prefixes[query]
        length = self.config.query_length if query else self.config.document_length
        rows, longer = tokenize(self.tokenizer, texts, length - (prefix is not None))
        if longer:
            self.truncated += longer
            warn_of_truncation(longer, len(texts), length)
        return rows if prefix is None else [np.insert(row, self._front, prefix) for row in rows]

    def batch(self, rows: Sequence[npt.NDArray[np.int64]], query: bool) -> tuple[Tensor, Tensor | None, Tensor]:
        """Padded ids (B, T), what may be attended to (None: all), and which tokens give a vector, bool (B, T)."""
        config, device = self.config, self.device
        if not (query and config.do_query_expansion and self._expansion_id is not None):
            ids_BT, mask_BT = pad(rows, device)
            kept_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
            return ids_BT, mask_BT, kept_BT if query else kept_BT & ~torch.isin(ids_BT, self._skipped.to(device))
        ids_BT = torch.full((len(rows), config.query_length), self._expansion_id)
        for place, row in enumerate(rows):
            ids_BT[place, : len(row)] = torch.from_numpy(row)
        real_BT = torch.arange(config.query_length) < torch.tensor([len(row) for row in rows])[:, None]
        ids_BT, real_BT = ids_BT.to(device), real_BT.to(device)
        return ids_BT, None if config.attend_to_expansion_tokens else real_BT, torch.ones_like(real_BT)

    def embed(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Vectors (B, T, D) of length 1, with gradient if there is one."""
        return self._projected(self.model(ids_BT, mask_BT))

    def _projected(self, hidden_BTC: Tensor) -> Tensor:
        return F.normalize(F.linear(hidden_BTC.float(), self.projection.float()), dim=-1)

    def _encode(self, texts: Sequence[str], query: bool, batch_tokens: int) -> list[npt.NDArray[np.float32]]:
        tokens = self.tokenize(list(texts), query)
        found: list[npt.NDArray[np.float32]] = [np.zeros((0, self.dim), np.float32)] * len(tokens)

        def encode(places: npt.NDArray[np.int64]) -> None:
            ids_BT, mask_BT, kept_BT = self.batch([tokens[place] for place in places], query)
            vectors_BTD = self._projected(self.encoding_model(ids_BT, mask_BT))
            for place, vectors_TD, kept_T in zip(places, vectors_BTD, kept_BT, strict=True):
                found[place] = vectors_TD[kept_T].cpu().numpy()

        batches = list(batches_of_like_lengths([len(row) for row in tokens], batch_tokens))
        run_batches(encode, batches, self.device)
        return found

    def save(self, directory: str | Path) -> None:
        """Write a directory in PyLate's layout, which sentence-transformers' MultiVectorEncoder also opens."""
        directory = Path(directory)
        files = {
            ABOUT: {"similarity_fn_name": "MaxSim", "prompts": {}, "default_prompt_name": None}
            | self.config.model_dump(mode="json"),
            f"{_DENSE}/config.json": {
                "in_features": self.model.config.hidden_size,
                "out_features": self.dim,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        }
        modules = [("", "sentence_transformers.models.Transformer"), (_DENSE, "pylate.models.Dense.Dense")]
        write_layout(directory, self.model, self.tokenizer, modules, files, self.config.document_length - 1)
        weights = save({_LINEAR: self.projection.detach().contiguous()}, metadata={"format": "pt"})
        with disk_errors(directory):
            write_atomically(directory / _DENSE / "model.safetensors", weights)

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Any = None, *, weights: str = "float32") -> Self:
        """Open a directory in PyLate's layout or in that of sentence-transformers' MultiVectorEncoder.

        Args:
            weights: see `MultiVectorEncoder`.

        Raises:
            FormatError: files are missing or damaged, or ask for what is not computed here.
        """
        directory = Path(directory)
        model = load_model(directory)
        if not isinstance(model, Encoder):
            raise FormatError("its model is no bidirectional encoder", where=directory)
        tokenizer = read_tokenizer(directory, tokenizer)
        config, folder = read_config(directory, tokenizer, model.config.context_length)
        about = read_json(folder / "config.json")
        activation = str(about.get("activation_function", "Identity")).rpartition(".")[2]
        if about.get("bias") or activation != "Identity":
            raise FormatError("its projection has a bias or an activation", where=folder / "config.json")
        tensors = read_safetensors(folder / "model.safetensors")
        if set(tensors) != {_LINEAR} or tensors[_LINEAR].dim() != 2:
            raise FormatError(f"it does not hold the one matrix '{_LINEAR}'", where=folder)
        return cls(model, tokenizer, tensors[_LINEAR].float(), config, weights=weights)

    def _id(self, token: str | None) -> int | None:
        number: int | None = None if token is None else self.tokenizer.token_to_id(token)
        return number


def _ragged(rows: Sequence[npt.NDArray[np.float32]], dim: int) -> Ragged:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Ragged(np.concatenate(rows) if rows else np.zeros((0, dim), np.float32), offsets)

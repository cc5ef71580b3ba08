"""What an encoder's training starts from: a directory of ours or of others, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field

from ..core.config import Config
from ..core.errors import FormatError
from ..core.ragged import Ragged
from ..core.randomness import torch_generator
from ..models import Decoder, Encoder, EncoderClassifier, MaskedLanguageModel, ModelConfig, load_model
from .cross_encoder import CrossEncoder
from .initial import cooccurrence_vectors
from .late_interaction import CHAINS, LateInteractionConfig
from .layout import LISTING
from .multivector import MultiVectorEncoder
from .sentence import SentenceEncoder
from .sparse import SparseEncoder

Kind = Literal["bi-encoder", "cross-encoder", "sparse", "multi-vector"]
AnyEncoder: TypeAlias = SentenceEncoder | CrossEncoder | SparseEncoder | MultiVectorEncoder

_OWN: dict[Kind, Any] = {
    "bi-encoder": SentenceEncoder,
    "cross-encoder": CrossEncoder,
    "sparse": SparseEncoder,
    "multi-vector": MultiVectorEncoder,
}


_LAST = {"bi-encoder": ("Pooling", "Normalize"), "sparse": ("SpladePooling",)}


class EncoderShape(Config):
    """The shape of an encoder that is trained from scratch."""

    hidden_size: int = Field(128, ge=8, description="width, which is also the dimension of the vectors")
    layers: int = Field(1, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    intermediate_size: int = Field(256, ge=8, description="width of the feed-forward layers")
    max_length: int = Field(192, ge=8, description="tokens that the encoder reads; what is longer is cut")
    cooccurrence_window: int = Field(
        10, ge=0, description="start token vectors from co-occurrences so far apart; 0: no"
    )
    seed: int = Field(0, ge=0, description="of the weights and the order of the examples")


def load_encoder(kind: Kind, directory: Path) -> AnyEncoder:
    """An encoder of that kind from its directory."""
    encoder: AnyEncoder = _OWN[kind].load(directory)
    return encoder


def open_start(kind: Kind, directory: Path, *, max_length: int, dim: int, seed: int) -> AnyEncoder:
    """An encoder of that kind, from a directory of one, or from any model that it can be built on: a sentence encoder
    or a bare encoder (under a new head), and for a bi-encoder our base model or another decoder.

    Args:
        max_length: tokens that it reads, where the directory does not say. dim: of a new projection.

    Raises:
        FormatError: the directory holds no such model.
    """
    model = load_model(directory)
    listed = (directory / LISTING).exists()
    # A sentence encoder's directory is a start for all kinds, as its model is a bare encoder.
    if kind == "cross-encoder" and isinstance(model, EncoderClassifier):
        return load_encoder(kind, directory)
    if listed and kind != "cross-encoder" and _is_own(kind, directory):
        return load_encoder(kind, directory)
    from ..tokenizers import Tokenizer

    tokenizer = Tokenizer.load(directory)
    if kind == "bi-encoder" and isinstance(model, Decoder):
        return SentenceEncoder(model, tokenizer, min(max_length, model.config.context_length), pooling="last")
    if kind == "sparse" and isinstance(model, MaskedLanguageModel):
        return SparseEncoder(model, tokenizer, min(max_length, model.config.context_length))
    if isinstance(model, MaskedLanguageModel):
        model = model.encoder
    if not isinstance(model, Encoder):
        raise FormatError(f"a {kind} cannot be built on its model, a {type(model).__name__}", where=directory)
    return on_encoder(kind, model, tokenizer, max_length=max_length, dim=dim, seed=seed)


def _is_own(kind: Kind, directory: Path) -> bool:
    from ..core.json_files import read_json

    kinds = tuple(str(one.get("type", "")).rpartition(".")[2] for one in read_json(directory / LISTING, list))
    if kind == "multi-vector":
        return kinds in CHAINS
    return bool(kinds) and kinds not in CHAINS and kinds[-1] in _LAST[kind]


def on_encoder(kind: Kind, model: Encoder, tokenizer: Any, *, max_length: int, dim: int, seed: int) -> AnyEncoder:
    """An encoder of that kind on a bare model, its head drawn by the seed."""
    length = min(max_length, model.config.context_length)
    if kind == "bi-encoder":
        return SentenceEncoder(model, tokenizer, length)
    if kind == "cross-encoder":
        return CrossEncoder.from_model(model, tokenizer, length, seed)
    if kind == "sparse":
        return SparseEncoder(MaskedLanguageModel(model, torch_generator(seed, "head")), tokenizer, length)
    config = LateInteractionConfig(document_length=length, query_length=min(32, length))
    return MultiVectorEncoder.from_model(model, tokenizer, dim, config, seed)


def new_encoder(shape: EncoderShape, tokenizer: Any, texts: Sequence[str]) -> Encoder:
    """An untrained encoder whose token vectors come from the co-occurrences in `texts`.

    Position vectors start at zero, so that positions which training texts do not reach change nothing.
    """
    config = ModelConfig(
        kind="encoder",
        vocab_size=tokenizer.vocab_size,
        hidden_size=shape.hidden_size,
        layers=shape.layers,
        heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        context_length=shape.max_length,
        norm_epsilon=1e-12,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Encoder(config, torch_generator(shape.seed, "encoder"))
    with torch.no_grad():
        for added in (model.position_embedding, model.type_embedding):
            assert added is not None
            added.weight.zero_()
        if shape.cooccurrence_window:
            encoded: Ragged = tokenizer.encode_batch(list(texts))
            vectors = cooccurrence_vectors(
                encoded, config.vocab_size, config.hidden_size, window=shape.cooccurrence_window, seed=shape.seed
            )
            model.embedding.weight.copy_(torch.from_numpy(vectors) * 0.05)
    return model

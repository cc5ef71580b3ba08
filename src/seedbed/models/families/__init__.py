"""Hugging Face architectures that our models load from and save to, a file for each kin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from ...core.config import build
from ...core.errors import ConfigError, FormatError
from ..config import ModelConfig
from ..heads import EncoderClassifier, MaskedLanguageModel, SequenceClassifier
from ..transformer import Decoder, Encoder, EncoderDecoder
from .bert import (
    BERT,
    BERT_CLASSIFIER,
    BERT_MASKED,
    MODERNBERT,
    MODERNBERT_CLASSIFIER,
    MODERNBERT_CLASSIFIER_MEAN,
    MODERNBERT_MASKED,
)
from .family import ConfigReader, Family, plain_rope
from .gpt2 import GPT2
from .llama import BARE_DECODERS, LLAMA, MISTRAL, QWEN2, QWEN3, QWEN3_CLASSIFIER, of_decoder
from .t5 import T5, T5_GATED

__all__ = ["FAMILIES", "ConfigReader", "Family", "Model", "family_named", "family_of", "plain_rope"]

Model: TypeAlias = Decoder | Encoder | EncoderDecoder | SequenceClassifier | EncoderClassifier | MaskedLanguageModel

_ALL = (
    QWEN3, QWEN3_CLASSIFIER, QWEN2, LLAMA, MISTRAL, GPT2, BERT, BERT_MASKED, BERT_CLASSIFIER, MODERNBERT,
    MODERNBERT_MASKED, MODERNBERT_CLASSIFIER, T5, *BARE_DECODERS,
)  # fmt: skip
FAMILIES = {family.architecture: family for family in _ALL}


def family_named(names: list[str], values: dict[str, Any]) -> Family | None:
    """The family of the first known architecture among `names` of a config.json."""
    family = next((FAMILIES[name] for name in names if name in FAMILIES), None)
    if family is MODERNBERT_CLASSIFIER and values.get("classifier_pooling") == "mean":
        return MODERNBERT_CLASSIFIER_MEAN
    gated = family is T5 and str(values.get("feed_forward_proj", "")).startswith("gated")
    return T5_GATED if gated else family


def family_of(model: Model) -> Family:
    """The architecture that computes what `model` computes.

    Raises: FormatError if there is none; it says what stands in the way.
    """
    config, family = plain_rope(model.config), _candidate(model)
    # All that the architecture's config can say, read back, must be the whole of ours.
    fields = family.read_config(ConfigReader(family.write_config(config), Path("config.json")))
    if family.refine is not None:
        fields |= {"pooler": config.pooler, "tie_embeddings": config.tie_embeddings}
    try:
        again = build(ModelConfig, fields)
    except ConfigError as error:
        raise FormatError(f"{family.architecture} cannot have such a config: {error.message}") from None
    other = [key for key in ModelConfig.model_fields if getattr(again, key) != getattr(config, key)]
    if other:
        asked = ", ".join(f"{key}={getattr(config, key)!r}" for key in other)
        raise FormatError(f"{family.architecture} cannot have {asked}", hint="Such a model is kept as a state dict.")
    return family


def _candidate(model: Model) -> Family:
    config = model.config
    if isinstance(model, EncoderDecoder):
        return T5_GATED if config.activation == "geglu_tanh" else T5
    if isinstance(model, MaskedLanguageModel):
        return MODERNBERT_MASKED if config.norm_position == "pre" else BERT_MASKED
    if isinstance(model, EncoderClassifier):
        modern = MODERNBERT_CLASSIFIER_MEAN if model.pooling == "mean" else MODERNBERT_CLASSIFIER
        return modern if config.norm_position == "pre" else BERT_CLASSIFIER
    if isinstance(model, Encoder):
        return MODERNBERT if config.norm_position == "pre" else BERT
    if isinstance(model, SequenceClassifier):
        return QWEN3_CLASSIFIER
    return GPT2 if config.positions == "learned" else of_decoder(config)

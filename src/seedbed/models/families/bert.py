"""BERT and ModernBERT: encoders, bare, with the head that predicts masked tokens, and as classifiers of sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, cat

from ...core.errors import FormatError
from ..config import ModelConfig
from ..heads import EncoderClassifier, MaskedLanguageModel
from ..transformer import Encoder
from .family import ConfigReader, Family, StackNames, Tensors


def _read_shape(reader: ConfigReader) -> dict[str, Any]:
    reader.value("tie_word_embeddings")  # only the head's, and its tensors tell
    return {
        "kind": "encoder",
        "vocab_size": reader.need("vocab_size", int),
        "hidden_size": reader.need("hidden_size", int),
        "layers": reader.need("num_hidden_layers", int),
        "heads": reader.need("num_attention_heads", int),
        "intermediate_size": reader.need("intermediate_size", int),
        "context_length": reader.need("max_position_embeddings", int),
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
    }


def _write_shape(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.context_length,
        "initializer_range": 0.02,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def _read_bert(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("hidden_act", ("gelu",))
    reader.refuse_unless("position_embedding_type", ("absolute",))
    reader.refuse_unless("is_decoder", (False,))
    return {
        **_read_shape(reader),
        "norm_epsilon": reader.get("layer_norm_eps", float, 1e-12),
        "token_types": reader.get("type_vocab_size", int, 2),
    }


def _write_bert(config: ModelConfig) -> dict[str, Any]:
    return _write_shape(config) | {
        "layer_norm_eps": config.norm_epsilon,
        "type_vocab_size": config.token_types,
        "position_embedding_type": "absolute",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _refine_bert(fields: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    fields["pooler"] = "pooler.dense.weight" in tensors


_BERT_BLOCK = {
    "attention.q_proj": "attention.self.query",
    "attention.k_proj": "attention.self.key",
    "attention.v_proj": "attention.self.value",
    "attention.o_proj": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feedforward.up_proj": "intermediate.dense",
    "feedforward.down_proj": "output.dense",
    "feedforward_norm": "output.LayerNorm",
}
_BERT_MODULES = {
    "embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "type_embedding": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
BERT = Family(
    "BertModel",
    "bert",
    "encoder",
    lambda config, labels: Encoder(config),
    _BERT_MODULES,
    {"": StackNames("encoder.layer", _BERT_BLOCK)},
    _read_bert,
    _write_bert,
    ignored=re.compile(r"(bert\.)?embeddings\.position_ids"),
    refine=_refine_bert,
)


def _with_head(
    bare: Family, architecture: str, prefix: str, head: dict[str, str], build: Callable[[ModelConfig, int], Any]
) -> Family:
    """The family of `bare` as the "encoder" of a model with a head."""
    stack = bare.stacks[""]
    return replace(
        bare,
        architecture=architecture,
        build=build,
        refine=None,
        modules={f"encoder.{ours}": prefix + theirs for ours, theirs in bare.modules.items()} | head,
        stacks={"encoder.": StackNames(prefix + stack.prefix, stack.modules)},
    )


def _masked(bare: Family, architecture: str, prefix: str, head: dict[str, str], tied: dict[str, str]) -> Family:
    """The family of `bare` with the head for masked tokens on top."""
    family = _with_head(bare, architecture, prefix, head, lambda config, labels: MaskedLanguageModel(Encoder(config)))
    return replace(family, tied=tied)


BERT_MASKED = _masked(
    BERT,
    "BertForMaskedLM",
    "bert.",
    {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
    {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
BERT_CLASSIFIER = replace(
    _with_head(
        BERT,
        "BertForSequenceClassification",
        "bert.",
        {"dense": "bert.pooler.dense", "score": "classifier"},
        lambda config, labels: EncoderClassifier(Encoder(config), labels),
    ),
    classifies=True,
)


def _read_modernbert(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("hidden_activation", ("gelu",))
    reader.refuse_unless("classifier_activation", ("gelu",))
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        reader.refuse_unless(key, (False,))
    reader.refuse_unless("decoder_bias", (True,))
    every = reader.get("global_attn_every_n_layers", int, 3)
    if every < 1:
        raise FormatError(f"'global_attn_every_n_layers' is {every}; it must be at least 1", where=reader.path)
    kinds = reader.get("layer_types", list)
    if kinds is not None and kinds != _layer_types(len(kinds), every):
        raise FormatError(f"'layer_types' is not one global layer of every {every}", where=reader.path)
    whole, local = reader.get("global_rope_theta", float, 160_000.0), reader.get("local_rope_theta", float, 10_000.0)
    ropes = reader.get("rope_parameters", dict) or {}
    for name in ("full_attention", "sliding_attention"):
        rope = ConfigReader(ConfigReader(ropes, reader.path).get(name, dict, {}), reader.path)
        rope.refuse_unless("rope_type", ("default",))
        found = rope.get("rope_theta", float)
        if found is not None:
            whole, local = (found, local) if name == "full_attention" else (whole, found)
    return {
        **_read_shape(reader),
        "norm_position": "pre",
        "norm_bias": False,
        "norm_epsilon": reader.get("norm_eps", float, 1e-5),
        "activation": "geglu",
        "qkv_bias": False,
        "output_bias": False,
        "feedforward_bias": False,
        "positions": "rotary",
        "rope_theta": whole,
        "window": reader.get("local_attention", int, 128),
        "global_every": every,
        "local_rope_theta": local,
        "token_types": 0,
    }


def _write_modernbert(config: ModelConfig) -> dict[str, Any]:
    local = config.local_rope_theta or config.rope_theta
    every = config.global_every or config.layers  # 0 has no place there: what is read back tells
    return _write_shape(config) | {
        "norm_eps": config.norm_epsilon,
        "hidden_activation": "gelu",
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "local_attention": config.window,
        "global_attn_every_n_layers": every,
        "layer_types": _layer_types(config.layers, every),
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": local,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
    }


def _layer_types(layers: int, every: int) -> list[str]:
    return ["sliding_attention" if layer % every else "full_attention" for layer in range(layers)]


# Theirs of several of ours, stored one behind another along the first axis.
_FUSED = {"attn.Wqkv": ("attn.q", "attn.k", "attn.v"), "mlp.Wi": ("mlp.gate", "mlp.up")}


def _unpack(theirs: Tensors, config: ModelConfig) -> Tensors:
    ours: Tensors = {}
    for name, tensor in theirs.items():
        fused = next((key for key in _FUSED if name.endswith(f".{key}.weight")), None)
        if fused is None:
            ours[name] = tensor
            continue
        parts, start = _FUSED[fused], name.removesuffix(f"{fused}.weight")
        if tensor.dim() == 0 or tensor.shape[0] % len(parts):
            raise FormatError(f"'{name}' has shape {tuple(tensor.shape)}, which does not divide by {len(parts)}")
        for part, piece in zip(parts, tensor.chunk(len(parts)), strict=True):
            ours[f"{start}{part}.weight"] = piece.clone()
    return ours


def _pack(ours: Tensors, config: ModelConfig) -> Tensors:
    theirs = dict(ours)
    for fused, parts in _FUSED.items():
        for name in [name for name in ours if name.endswith(f".{parts[0]}.weight")]:
            start = name.removesuffix(f"{parts[0]}.weight")
            theirs[f"{start}{fused}.weight"] = cat([theirs.pop(f"{start}{part}.weight") for part in parts])
    return theirs


MODERNBERT = Family(
    "ModernBertModel",
    "modernbert",
    "encoder",
    lambda config, labels: Encoder(config),
    {"embedding": "embeddings.tok_embeddings", "embedding_norm": "embeddings.norm", "norm": "final_norm"},
    {
        "": StackNames(
            "layers",
            {
                "attention_norm": "attn_norm",
                "attention.q_proj": "attn.q",
                "attention.k_proj": "attn.k",
                "attention.v_proj": "attn.v",
                "attention.o_proj": "attn.Wo",
                "feedforward_norm": "mlp_norm",
                "feedforward.gate_proj": "mlp.gate",
                "feedforward.up_proj": "mlp.up",
                "feedforward.down_proj": "mlp.Wo",
            },
        )
    },
    _read_modernbert,
    _write_modernbert,
    unpack=_unpack,
    pack=_pack,
)
MODERNBERT_MASKED = _masked(
    MODERNBERT,
    "ModernBertForMaskedLM",
    "model.",
    {"dense": "head.dense", "norm": "head.norm", "bias": "decoder.bias"},
    {"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)


def _modernbert_classifier(pooling: Literal["cls", "mean"]) -> Family:
    family = _with_head(
        MODERNBERT,
        "ModernBertForSequenceClassification",
        "model.",
        {"dense": "head.dense", "norm": "head.norm", "score": "classifier"},
        lambda config, labels: EncoderClassifier(Encoder(config), labels, pooling=pooling),
    )
    return replace(
        family,
        classifies=True,
        write_config=lambda config: _write_modernbert(config) | {"classifier_pooling": pooling},
    )


MODERNBERT_CLASSIFIER = _modernbert_classifier("cls")
MODERNBERT_CLASSIFIER_MEAN = _modernbert_classifier("mean")

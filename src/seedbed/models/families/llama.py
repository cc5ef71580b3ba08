"""Llama, Mistral, Qwen2 and Qwen3: pre-norm decoders with RMSNorm, rotary positions and SwiGLU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...core.errors import FormatError
from ..config import ModelConfig
from ..heads import SequenceClassifier
from ..transformer import Decoder
from .family import ConfigReader, Family, StackNames, write_rope


def _read_decoder(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("hidden_act", ("silu",))
    reader.refuse_unless("mlp_bias", (False,))
    for kind in reader.get("layer_types", list, []):
        if kind != "full_attention":
            raise FormatError(f"'layer_types' holds {kind!r:.80}, which is not supported", where=reader.path)
    return {
        "kind": "decoder",
        "vocab_size": reader.need("vocab_size", int),
        "hidden_size": reader.need("hidden_size", int),
        "layers": reader.need("num_hidden_layers", int),
        "heads": reader.need("num_attention_heads", int),
        "kv_heads": reader.get("num_key_value_heads", int),
        "head_dim": reader.get("head_dim", int),
        "intermediate_size": reader.need("intermediate_size", int),
        "context_length": reader.need("max_position_embeddings", int),
        "norm_epsilon": reader.get("rms_norm_eps", float, 1e-6),
        "tie_embeddings": reader.get("tie_word_embeddings", bool, False),
        "bos_token_id": reader.token("bos_token_id"),
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
        **reader.rope(),
    }


def _no_window(reader: ConfigReader) -> None:
    reader.refuse_unless("use_sliding_window", (False,))
    reader.value("sliding_window")  # its length, if there were one


def _read_qwen3(reader: ConfigReader) -> dict[str, Any]:
    _no_window(reader)
    # Qwen3Config's own default, where it differs from hidden_size / heads.
    head_dim = reader.get("head_dim", int, 128)
    return {**_read_decoder(reader), "head_dim": head_dim, "qk_norm": True, "qkv_bias": _no_bias(reader)}


def _read_llama(reader: ConfigReader) -> dict[str, Any]:
    return {**_read_decoder(reader), "qk_norm": False, "qkv_bias": _no_bias(reader)}


def _read_mistral(reader: ConfigReader) -> dict[str, Any]:
    return {**_read_decoder(reader), "qk_norm": False, "window": reader.get("sliding_window", int, 0)}


def _read_qwen2(reader: ConfigReader) -> dict[str, Any]:
    _no_window(reader)
    return {**_read_decoder(reader), "qk_norm": False, "qkv_bias": True}


def _no_bias(reader: ConfigReader) -> bool:
    reader.refuse_unless("attention_bias", (False,))
    return False


def _write_decoder(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": write_rope(config),
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def _write_mistral(config: ModelConfig) -> dict[str, Any]:
    return _write_decoder(config) | {"sliding_window": config.window}


_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "feedforward_norm": "post_attention_layernorm",
    "feedforward": "mlp",
}


def _decoder(
    architecture: str,
    model_type: str,
    read: Callable[[ConfigReader], dict[str, Any]],
    write: Callable[[ModelConfig], dict[str, Any]] = _write_decoder,
) -> Family:
    return Family(
        architecture,
        model_type,
        "decoder",
        lambda config, labels: Decoder(config),
        {"embedding": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"},
        {"": StackNames("model.layers", _BLOCK)},
        read,
        write,
        tied={"lm_head.weight": "model.embed_tokens.weight"},
    )


QWEN3 = _decoder("Qwen3ForCausalLM", "qwen3", _read_qwen3)
QWEN2 = _decoder("Qwen2ForCausalLM", "qwen2", _read_qwen2)
LLAMA = _decoder("LlamaForCausalLM", "llama", _read_llama)
MISTRAL = _decoder("MistralForCausalLM", "mistral", _read_mistral, _write_mistral)


def _bare(family: Family) -> Family:
    """A decoder without a head, as embedding models are kept: its embedding stands in for the head."""

    def read(reader: ConfigReader) -> dict[str, Any]:
        return family.read_config(reader) | {"tie_embeddings": True}

    architecture = family.architecture.replace("ForCausalLM", "Model")
    return replace(family, architecture=architecture, read_config=read, base="model.", tied={})


BARE_DECODERS = tuple(_bare(family) for family in (QWEN3, QWEN2, LLAMA, MISTRAL))
QWEN3_CLASSIFIER = Family(
    "Qwen3ForSequenceClassification",
    "qwen3",
    "decoder",
    lambda config, labels: SequenceClassifier(Decoder(config), labels),
    {"decoder.embedding": "model.embed_tokens", "decoder.norm": "model.norm", "score": "score"},
    {"decoder.": StackNames("model.layers", _BLOCK)},
    _read_qwen3,
    _write_decoder,
    classifies=True,
)


def of_decoder(config: ModelConfig) -> Family:
    """The family that computes what a rotary pre-norm SwiGLU decoder of this config does.

    Raises: FormatError if there is none.
    """
    if config.qk_norm and not config.qkv_bias and not config.window:
        return QWEN3
    if not config.qk_norm and config.window and not config.qkv_bias:
        return MISTRAL
    if not config.qk_norm and not config.window:
        return QWEN2 if config.qkv_bias else LLAMA
    asked = f"qk_norm={config.qk_norm}, qkv_bias={config.qkv_bias}, window={config.window}"
    raise FormatError(
        f"no architecture is a decoder with {asked}",
        hint="Use one of qk_norm (Qwen3), qkv_bias (Qwen2) and window (Mistral).",
    )

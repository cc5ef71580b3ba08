"""Hugging Face architectures: how each one's config and tensor names translate to our models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import FormatError
from .config import ModelConfig


@dataclass(frozen=True)
class Family:
    """How one Hugging Face architecture maps to our models.

    Args:
        architecture, model_type: as `config.json` names them.
        modules: our module path -> theirs, outside of the blocks.
        block_prefix: theirs before a block's number (ours is "blocks").
        block_modules: our module path inside a block -> theirs.
        read_config, write_config: translate the config; reading refuses by name what we do not compute.
        ignored: tensors in old files that are no parameters.
    """

    architecture: str
    model_type: str
    modules: Mapping[str, str]
    block_prefix: str
    block_modules: Mapping[str, str]
    read_config: Callable[[ConfigReader], dict[str, Any]]
    write_config: Callable[[ModelConfig], dict[str, Any]]
    ignored: frozenset[str] = field(default_factory=frozenset)

    def module_path(self, ours: str) -> str:
        """Their path of our module (or parameter): "blocks.3.attention.q_proj" -> "model.layers.3.self_attn.q_proj"."""
        path, _, parameter = ours.rpartition(".")
        if ours.startswith("blocks."):
            _, number, inner = ours.split(".", 2)
            for our_name, their_name in self.block_modules.items():
                if inner == our_name or inner.startswith(our_name + "."):
                    return f"{self.block_prefix}.{number}.{their_name}{inner[len(our_name) :]}"
        elif ours in self.modules:
            return self.modules[ours]
        elif path in self.modules:
            return f"{self.modules[path]}.{parameter}"
        raise FormatError(f"'{ours}' has no place in {self.architecture}")


class ConfigReader:
    """`config.json` with each key's type checked as it is read."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None or (kind is float and type(value) is int):
            return value
        if type(value) is not kind:
            raise FormatError(f"'{key}' must be of type {kind.__name__}, not {value!r:.80}", where=self.path)
        return value

    def need(self, key: str, kind: type) -> Any:
        value = self.get(key, kind)
        if value is None:
            raise FormatError(f"'{key}' is missing", where=self.path)
        return value

    def refuse_unless(self, key: str, allowed: tuple[Any, ...]) -> None:
        """Raise where a key asks for something that our model does not compute."""
        value = self.values.get(key)
        if value not in (None, *allowed):
            known = " or ".join(repr(choice) for choice in allowed) or "leaving it out"
            raise FormatError(
                f"'{key}' is {value!r:.80}, which is not supported", where=self.path, hint=f"Supported: {known}."
            )

    def token(self, key: str) -> int | None:
        """A token id; of a list the first, since models state there which ids end a text."""
        value = self.values.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None or type(value) is int:
            return value
        raise FormatError(f"'{key}' must be a token id, not {value!r:.80}", where=self.path)


def _read_decoder(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("hidden_act", ("silu",))
    reader.refuse_unless("use_sliding_window", (False,))
    reader.refuse_unless("mlp_bias", (False,))
    rope = reader.get("rope_parameters", dict) or reader.get("rope_scaling", dict) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise FormatError(
            f"rotary positions of type {kind!r:.80} are not supported", where=reader.path, hint="Supported: 'default'."
        )
    theta = ConfigReader(rope, reader.path).get("rope_theta", float) or reader.get("rope_theta", float, 10_000.0)
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
        "rope_theta": theta,
        "tie_embeddings": reader.get("tie_word_embeddings", bool, False),
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
    }


def _read_qwen3(reader: ConfigReader) -> dict[str, Any]:
    # Qwen3Config's own defaults, where they differ from hidden_size / heads.
    return {
        **_read_decoder(reader),
        "head_dim": reader.get("head_dim", int, 128),
        "qk_norm": True,
        "qkv_bias": _no_bias(reader),
    }


def _read_llama(reader: ConfigReader) -> dict[str, Any]:
    return {**_read_decoder(reader), "qk_norm": False, "qkv_bias": _no_bias(reader)}


def _read_qwen2(reader: ConfigReader) -> dict[str, Any]:
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
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def _read_bert(reader: ConfigReader) -> dict[str, Any]:
    reader.refuse_unless("hidden_act", ("gelu",))
    reader.refuse_unless("position_embedding_type", ("absolute",))
    reader.refuse_unless("is_decoder", (False,))
    return {
        "kind": "encoder",
        "vocab_size": reader.need("vocab_size", int),
        "hidden_size": reader.need("hidden_size", int),
        "layers": reader.need("num_hidden_layers", int),
        "heads": reader.need("num_attention_heads", int),
        "intermediate_size": reader.need("intermediate_size", int),
        "context_length": reader.need("max_position_embeddings", int),
        "norm_epsilon": reader.get("layer_norm_eps", float, 1e-12),
        "token_types": reader.get("type_vocab_size", int, 2),
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
    }


def _write_bert(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.context_length,
        "layer_norm_eps": config.norm_epsilon,
        "type_vocab_size": config.token_types,
        "position_embedding_type": "absolute",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


_DECODER_MODULES = {"embedding": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
_DECODER_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "feedforward_norm": "post_attention_layernorm",
    "feedforward": "mlp",
}
_DECODER = (_DECODER_MODULES, "model.layers", _DECODER_BLOCK)
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
_CLASSIFIER_MODULES = {"embedding": "model.embed_tokens", "norm": "model.norm", "score": "score"}

QWEN3 = Family("Qwen3ForCausalLM", "qwen3", *_DECODER, _read_qwen3, _write_decoder)
QWEN3_CLASSIFIER = Family(
    "Qwen3ForSequenceClassification",
    "qwen3",
    _CLASSIFIER_MODULES,
    "model.layers",
    _DECODER_BLOCK,
    _read_qwen3,
    _write_decoder,
)
QWEN2 = Family("Qwen2ForCausalLM", "qwen2", *_DECODER, _read_qwen2, _write_decoder)
LLAMA = Family("LlamaForCausalLM", "llama", *_DECODER, _read_llama, _write_decoder)
BERT = Family(
    "BertModel",
    "bert",
    _BERT_MODULES,
    "encoder.layer",
    _BERT_BLOCK,
    _read_bert,
    _write_bert,
    frozenset({"embeddings.position_ids"}),
)
FAMILIES = {family.architecture: family for family in (QWEN3, QWEN3_CLASSIFIER, QWEN2, LLAMA, BERT)}

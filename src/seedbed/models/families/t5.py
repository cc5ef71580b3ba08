"""T5 (and 1.1): a pre-norm encoder-decoder with RMSNorm, relative positions and unscaled scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, equal

from ...core.errors import FormatError
from ..config import ModelConfig
from ..transformer import EncoderDecoder
from .family import ConfigReader, Family, StackNames

_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu_tanh"}


def _read(reader: ConfigReader) -> dict[str, Any]:
    projection = reader.get("feed_forward_proj", str, "relu")
    if projection not in _ACTIVATIONS:
        raise FormatError(
            f"'feed_forward_proj' is {projection!r:.80}", where=reader.path, hint="Supported: relu, gated-gelu."
        )
    reader.refuse_unless("is_encoder_decoder", (True,))
    layers = reader.need("num_layers", int)
    scaled = reader.get("tie_word_embeddings", bool, True)  # which of the two T5s it is; what is tied, the tensors tell
    start = reader.token("decoder_start_token_id")
    return {
        "kind": "encoder-decoder",
        "vocab_size": reader.need("vocab_size", int),
        "hidden_size": reader.need("d_model", int),
        "layers": reader.get("num_decoder_layers", int, layers),
        "encoder_layers": layers,
        "heads": reader.need("num_heads", int),
        "head_dim": reader.need("d_kv", int),
        "intermediate_size": reader.need("d_ff", int),
        "context_length": reader.get("n_positions", int, 512),
        "norm": "rms",
        "norm_position": "pre",
        "norm_epsilon": reader.get("layer_norm_epsilon", float, 1e-6),
        "activation": _ACTIVATIONS[projection],
        "qkv_bias": False,
        "output_bias": False,
        "feedforward_bias": False,
        "positions": "relative",
        "relative_buckets": reader.get("relative_attention_num_buckets", int, 32),
        "relative_distance": reader.get("relative_attention_max_distance", int, 128),
        "scale_scores": False,
        "scale_head": reader.get("scale_decoder_outputs", bool, scaled),
        "bos_token_id": reader.token("pad_token_id") if start is None else start,
        "eos_token_id": reader.token("eos_token_id"),
        "pad_token_id": reader.token("pad_token_id"),
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.layers,
        "num_heads": config.heads,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "n_positions": config.context_length,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": "gated-gelu" if config.activation == _ACTIVATIONS["gated-gelu"] else "relu",
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "tie_word_embeddings": config.scale_head,
        "scale_decoder_outputs": config.scale_head,
        "is_encoder_decoder": True,
        "dropout_rate": 0.0,
        "decoder_start_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


_ATTENTION = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}


def _block(gated: bool, cross: bool) -> dict[str, str]:
    names = {f"attention.{ours}": f"layer.0.SelfAttention.{theirs}" for ours, theirs in _ATTENTION.items()}
    names["attention_norm"] = "layer.0.layer_norm"
    if cross:
        names |= {f"cross_attention.{ours}": f"layer.1.EncDecAttention.{theirs}" for ours, theirs in _ATTENTION.items()}
        names["cross_norm"] = "layer.1.layer_norm"
    last = f"layer.{2 if cross else 1}"
    names |= {"feedforward_norm": f"{last}.layer_norm", "feedforward.down_proj": f"{last}.DenseReluDense.wo"}
    if gated:
        names["feedforward.gate_proj"] = f"{last}.DenseReluDense.wi_0"
    return names | {"feedforward.up_proj": f"{last}.DenseReluDense.{'wi_1' if gated else 'wi'}"}


_MODULES = {
    "embedding": "shared",
    "lm_head": "lm_head",
    "encoder.norm": "encoder.final_layer_norm",
    "decoder.norm": "decoder.final_layer_norm",
    "encoder.relative_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "decoder.relative_bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
}


def _family(gated: bool) -> Family:
    return Family(
        "T5ForConditionalGeneration",
        "t5",
        "encoder-decoder",
        lambda config, labels: EncoderDecoder(config),
        _MODULES,
        {
            "encoder.": StackNames("encoder.block", _block(gated, cross=False)),
            "decoder.": StackNames("decoder.block", _block(gated, cross=True)),
        },
        _read,
        _write,
        tied=dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight")
        | {"lm_head.weight": "shared.weight"},
        refine=_refine,
    )


def _refine(fields: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    head, shared = tensors.get("lm_head.weight"), tensors.get("shared.weight")
    fields["tie_embeddings"] = head is None or (shared is not None and equal(head, shared))


T5, T5_GATED = _family(False), _family(True)

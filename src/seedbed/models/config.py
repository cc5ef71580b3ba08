"""The shape of a transformer, from which its parameters, its cost and its Hugging Face config follow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..core.config import Config

# Bounds far above any published model: a hostile config is refused before anything is allocated.
_Width = Annotated[int, Field(ge=1, le=1 << 18)]


class ModelConfig(Config):
    """A decoder (Qwen3-shaped by default) or an encoder (BERT-shaped).

    Decoder: RMSNorm before each sublayer, grouped-query attention with QK-norm, rotary positions, SwiGLU.
    Encoder: learned positions and token types, LayerNorm after each sublayer, GELU, biases everywhere.
    Left out (or 0), `kv_heads` is `heads`, `head_dim` is `hidden_size / heads`, and `intermediate_size` is 8/3 of the
    width for the gated feed-forward and 4 times it otherwise, rounded up to a multiple of 32.
    """

    kind: Literal["decoder", "encoder"] = "decoder"
    vocab_size: Annotated[int, Field(ge=1, le=1 << 24)]
    hidden_size: _Width
    layers: Annotated[int, Field(ge=1, le=1024)]
    heads: Annotated[int, Field(ge=1, le=4096)]
    kv_heads: Annotated[int, Field(ge=1, le=4096)] = 0
    head_dim: Annotated[int, Field(ge=1, le=4096)] = 0
    intermediate_size: Annotated[int, Field(ge=1, le=1 << 20)] = 0
    context_length: Annotated[int, Field(ge=1, le=1 << 24)] = 256
    norm_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    tie_embeddings: bool = True
    qk_norm: bool = True
    qkv_bias: bool = False
    token_types: Annotated[int, Field(ge=1, le=1024)] = 2
    pooler: bool = False
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        width, heads = filled.get("hidden_size"), filled.get("heads")
        if isinstance(width, int) and isinstance(heads, int) and heads > 0:
            if not filled.get("kv_heads"):
                filled["kv_heads"] = heads
            if not filled.get("head_dim"):
                if width % heads:
                    raise ValueError(f"hidden_size {width} does not divide into {heads} heads; set head_dim")
                filled["head_dim"] = width // heads
            if not filled.get("intermediate_size"):
                wide = width * 4 if filled.get("kind") == "encoder" else -(-width * 8 // 3)
                filled["intermediate_size"] = -(-wide // 32) * 32
        return filled

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.kind == "decoder" and self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even for rotary positions")
        if self.kind == "encoder" and (self.kv_heads != self.heads or self.head_dim * self.heads != self.hidden_size):
            raise ValueError("an encoder has as many kv_heads as heads, and heads x head_dim = hidden_size")
        for name in ("eos_token_id", "pad_token_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise ValueError(f"{name} ({token}) lies outside the vocabulary of {self.vocab_size}")
        return self

    def parameter_count(self, embeddings: bool = True) -> int:
        """Parameters of the model; without `embeddings`, all but lookup tables and head (Kaplan et al. 2020)."""
        width, queries, keys = self.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.kind == "encoder":
            norm = 2 * width
            block = 4 * (width * width + width) + 2 * norm
            block += 2 * width * self.intermediate_size + self.intermediate_size + width
            tables = (self.vocab_size + self.context_length + self.token_types) * width + norm
            pooler = width * width + width if self.pooler else 0
            return self.layers * block + pooler + (tables if embeddings else 0)
        block = width * (2 * queries + 2 * keys) + 3 * width * self.intermediate_size + 2 * width
        block += (queries + 2 * keys if self.qkv_bias else 0) + (2 * self.head_dim if self.qk_norm else 0)
        tables = self.vocab_size * width * (1 if self.tie_embeddings else 2)
        return self.layers * block + width + (tables if embeddings else 0)

    def flops_per_token(self, context: int | None = None) -> int:
        """Training FLOPs (forward and backward) per token at `context` tokens: 6 per weight that multiplies, the head
        included and the lookup not, and 12 * layers * heads * head_dim * context for the attention's two products,
        causality not discounted (PaLM, appendix B)."""
        context = self.context_length if context is None else context
        width, queries, keys = self.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        matrices = 2 if self.kind == "encoder" else 3
        weights = self.layers * (width * (2 * queries + 2 * keys) + matrices * width * self.intermediate_size)
        head = 0 if self.kind == "encoder" else self.vocab_size * width
        return 6 * (weights + head) + 12 * self.layers * queries * context

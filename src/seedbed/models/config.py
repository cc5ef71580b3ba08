"""The shape of a transformer, from which its parameters, its cost and its Hugging Face config follow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..core.config import Config

# Bounds far above any published model: a hostile config is refused before anything is allocated.
_Width = Annotated[int, Field(ge=1, le=1 << 18)]
_Length = Annotated[int, Field(ge=1, le=1 << 24)]
_Theta = Annotated[float, Field(gt=1, le=1e30)]

GATED = ("swiglu", "geglu", "geglu_tanh")
# What a kind of model is unless its config says otherwise: Qwen3, BERT, and the transformer of Vaswani et al. 2017.
_BIASES = {"qkv_bias": True, "output_bias": True, "feedforward_bias": True}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "decoder": {"qk_norm": True},
    "encoder": {
        "norm": "layer", "norm_position": "post", "activation": "gelu", "positions": "learned", "token_types": 2,
        "embedding_norm": True, **_BIASES,
    },
    "encoder-decoder": {
        "norm": "layer", "norm_position": "post", "activation": "relu", "positions": "sinusoidal", **_BIASES,
    },
}  # fmt: skip


class RopeScaling(Config):
    """How rotary positions reach beyond the context that a model was trained with.

    linear: positions divided by `factor` (Chen et al. 2023). ntk: the base raised so that the lowest frequency is
    divided by `factor` ("NTK-aware"). yarn: low frequencies divided, high ones kept, with a ramp between (Peng et al.
    2023). llama3: Llama 3.1's ramp between two wavelengths.
    """

    kind: Literal["linear", "ntk", "yarn", "llama3"]
    factor: Annotated[float, Field(ge=1, le=1 << 16)]
    original_context: _Length = 2048
    beta_fast: Annotated[float, Field(gt=0)] = 32.0  # yarn: turns within the original context
    beta_slow: Annotated[float, Field(gt=0)] = 1.0
    attention_factor: Annotated[float, Field(gt=0)] | None = None  # yarn: 0.1 ln(factor) + 1 unless given
    low_frequency_factor: Annotated[float, Field(gt=0)] = 1.0  # llama3
    high_frequency_factor: Annotated[float, Field(gt=0)] = 4.0

    @model_validator(mode="after")
    def _check(self) -> RopeScaling:
        if self.beta_fast <= self.beta_slow or self.high_frequency_factor <= self.low_frequency_factor:
            raise ValueError("the ramp needs beta_fast > beta_slow and high_frequency_factor > low_frequency_factor")
        return self


class LatentAttention(Config):
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values come from one low-rank latent per token."""

    rank: _Width  # width of the latent, which is what the cache holds
    rope_head_dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2)]  # of the rotary key that all heads share
    query_rank: Annotated[int, Field(ge=0, le=1 << 18)] = 0  # 0: queries are projected from the full width


class ModelConfig(Config):
    """A decoder, an encoder, or an encoder-decoder; by default shaped as Qwen3, BERT and Vaswani et al. 2017.

    Left out (or 0), `kv_heads` is `heads`, `head_dim` is `hidden_size / heads`, and `intermediate_size` is 8/3 of the
    width for a gated feed-forward and 4 times it otherwise, rounded up to a multiple of 32.
    """

    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    vocab_size: Annotated[int, Field(ge=1, le=1 << 24)]
    hidden_size: _Width
    layers: Annotated[int, Field(ge=1, le=1024)]
    encoder_layers: Annotated[int, Field(ge=0, le=1024)] = 0  # of an encoder-decoder; 0: as many as `layers`
    heads: Annotated[int, Field(ge=1, le=4096)]
    kv_heads: Annotated[int, Field(ge=1, le=4096)] = 0
    head_dim: Annotated[int, Field(ge=1, le=4096)] = 0
    intermediate_size: Annotated[int, Field(ge=1, le=1 << 20)] = 0
    context_length: _Length = 256
    # Sublayers
    norm: Literal["rms", "layer"] = "rms"
    norm_position: Literal["pre", "post"] = "pre"
    norm_bias: bool = True  # of LayerNorm
    norm_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    activation: Literal["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "relu", "relu2"] = "swiglu"
    experts: Annotated[int, Field(ge=0, le=1024)] = 0  # 0: one feed-forward, not a mixture
    experts_per_token: Annotated[int, Field(ge=1, le=1024)] = 2
    qkv_bias: bool = False
    output_bias: bool = False
    feedforward_bias: bool = False
    # Attention
    qk_norm: bool = False
    latent: LatentAttention | None = None
    window: Annotated[int, Field(ge=0, le=1 << 24)] = 0  # 0: every token; else a token and the window - 1 before it
    global_every: Annotated[int, Field(ge=0, le=1024)] = 0  # with a window: layers 0, n, 2n, ... see every token
    sink_tokens: Annotated[int, Field(ge=0, le=1024)] = 0  # with a window: these first tokens stay visible
    learned_sinks: bool = False
    softcap: Annotated[float, Field(ge=0)] = 0.0  # of attention scores; 0: none
    logit_softcap: Annotated[float, Field(ge=0)] = 0.0
    scale_scores: bool = True  # by 1 / sqrt(head_dim)
    # Positions and embeddings
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "relative", "none"] = "rotary"
    rope_theta: _Theta = 10_000.0
    rope_scaling: RopeScaling | None = None
    local_rope_theta: _Theta | None = None  # of layers with a window, where it differs
    relative_buckets: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] = 32
    relative_distance: _Length = 128
    tie_embeddings: bool = True
    scale_head: bool = False  # hidden states times 1 / sqrt(hidden_size) before the head (T5)
    token_types: Annotated[int, Field(ge=0, le=1024)] = 0
    embedding_norm: bool = False
    pooler: bool = False
    bos_token_id: int | None = None  # an encoder-decoder's decoder starts with it
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind = values.get("kind", "decoder")
        filled = {**(_DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}), **values}
        width, heads = filled.get("hidden_size"), filled.get("heads")
        if isinstance(width, int) and isinstance(heads, int) and heads > 0:
            if not filled.get("kv_heads"):
                filled["kv_heads"] = heads
            if not filled.get("head_dim"):
                if width % heads:
                    raise ValueError(f"hidden_size {width} does not divide into {heads} heads; set head_dim")
                filled["head_dim"] = width // heads
            if not filled.get("intermediate_size"):
                gated = filled.get("activation", "swiglu") in GATED
                filled["intermediate_size"] = -(-(-(-width * 8 // 3) if gated else width * 4) // 32) * 32
        if kind == "encoder-decoder" and not filled.get("encoder_layers"):
            filled["encoder_layers"] = filled.get("layers")
        return filled

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.positions == "rotary" and self.latent is None and self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even for rotary positions")
        if self.experts and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token ({self.experts_per_token}) is more than experts ({self.experts})")
        if (self.sink_tokens or self.global_every or self.local_rope_theta) and not self.window:
            raise ValueError("sink_tokens, global_every and local_rope_theta need a window")
        if self.positions == "relative" and self.relative_distance <= self.relative_buckets // 2:
            raise ValueError(
                f"relative_distance ({self.relative_distance}) must be more than half of the relative_buckets"
                f" ({self.relative_buckets}): those are of one distance each"
            )
        if self.latent and (self.kind != "decoder" or self.positions != "rotary" or self.qk_norm):
            raise ValueError("latent attention is for decoders with rotary positions and without qk_norm")
        if self.kind != "encoder" and (self.token_types or self.embedding_norm or self.pooler):
            raise ValueError("token_types, embedding_norm and pooler are an encoder's")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise ValueError(f"{name} ({token}) lies outside the vocabulary of {self.vocab_size}")
        return self

    def windowed(self, layer: int) -> bool:
        """Whether `layer` sees a window only."""
        return self.window > 0 and not (self.global_every and layer % self.global_every == 0)

    def cache_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """What the cache holds per token and layer, as (heads, width) of its two parts: keys and values, or the latent
        and the rotary key."""
        if self.latent:
            return (1, self.latent.rank), (1, self.latent.rope_head_dim)
        return (self.kv_heads, self.head_dim), (self.kv_heads, self.head_dim)

    def parameter_count(self, embeddings: bool = True) -> int:
        """Parameters of the model; without `embeddings`, all but lookup tables and head (Kaplan et al. 2020)."""
        width = self.hidden_size
        norm = width * (2 if self.norm == "layer" and self.norm_bias else 1)
        block = self._attention_weights() + self._attention_vectors() + 2 * norm
        block += max(1, self.experts) * self._feedforward_weights() + self.experts * width
        if self.feedforward_bias:
            wide = self.intermediate_size * (2 if self.activation in GATED else 1)
            block += max(1, self.experts) * (wide + width)
        last_norm = norm if self.norm_position == "pre" else 0
        count = self.layers * block + last_norm
        if self.embedding_norm and self.norm_position == "pre":
            count -= norm  # the first sublayer finds its input normalised
        if self.kind == "encoder-decoder":
            count += self.encoder_layers * block + last_norm
            count += self.layers * (self._attention_weights() + self._attention_vectors() + norm)  # cross-attention
        if self.pooler:
            count += width * width + width
        stacks = 2 if self.kind == "encoder-decoder" else 1
        if self.positions == "relative":
            count += stacks * self.relative_buckets * self.heads
        if not embeddings:
            return count
        rows = self.vocab_size + self.token_types
        rows += stacks * self.context_length if self.positions == "learned" else 0
        rows += self.vocab_size if self.kind != "encoder" and not self.tie_embeddings else 0
        return count + rows * width + (norm if self.embedding_norm else 0)

    def flops_per_token(self, context: int | None = None) -> int:
        """Training FLOPs (forward and backward) per token at `context` tokens: 6 per weight that multiplies, the head
        included and the lookup not, and 12 * layers * heads * head_dim * context for the attention's two products,
        causality not discounted (PaLM, appendix B). Of a mixture, the experts that a token meets; of an
        encoder-decoder, the decoder with its cross-attention, and the encoder over as many tokens."""
        context = self.context_length if context is None else context
        experts = self.experts_per_token if self.experts else 1
        block = self._attention_weights() + experts * self._feedforward_weights() + self.experts * self.hidden_size
        head = 0 if self.kind == "encoder" else self.vocab_size * self.hidden_size
        seen = [min(context, self.window) if self.windowed(layer) else context for layer in range(self.layers)]
        layers = self.layers
        if self.kind == "encoder-decoder":
            layers += self.encoder_layers
            head += self.layers * self._attention_weights()
            seen += [context] * (self.encoder_layers + self.layers)
        return 6 * (layers * block + head) + 12 * self.heads * self.head_dim * sum(seen)

    def _attention_weights(self) -> int:
        width, queries, keys = self.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.latent is None:
            return width * (2 * queries + 2 * keys)
        rank, rope, down = self.latent.rank, self.latent.rope_head_dim, self.latent.query_rank
        turned = self.heads * (self.head_dim + rope)
        query = width * down + down * turned if down else width * turned
        return query + width * (rank + rope) + rank * 2 * queries + queries * width

    def _attention_vectors(self) -> int:
        """Biases, norms of heads and latents, and sinks of one attention."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        count = (self.hidden_size if self.output_bias else 0) + (self.heads if self.learned_sinks else 0)
        if self.latent:
            return count + self.latent.rank + self.latent.query_rank
        return count + (queries + 2 * keys if self.qkv_bias else 0) + (2 * self.head_dim if self.qk_norm else 0)

    def _feedforward_weights(self) -> int:
        return (3 if self.activation in GATED else 2) * self.hidden_size * self.intermediate_size

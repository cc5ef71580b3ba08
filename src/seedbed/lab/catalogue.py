"""The exhibits in their order: module of `lab.exhibits` to title. Importing one is left to who asks for it."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ..core.errors import ConfigError
from .exhibit import Exhibit

TITLES = {
    "tokenizer_kinds": "BPE, WordPiece and Unigram on one text",
    "fertility_gaps": "Fertility gaps between languages",
    "glitch_tokens": "Glitch tokens",
    "embedding_geometry": "Meaning as geometry",
    "dense_and_sparse": "Dense against sparse; cosine, dot and L2",
    "scaled_attention": "Scaled dot-product attention, and why it is scaled",
    "attention_masks": "Self, cross and causal attention",
    "attention_heads": "Heads removed one by one",
    "positional_encodings": "Order, and lengths never seen",
    "encoder_decoder": "The fixed context vector against attention",
    "recurrence": "Vanishing gradients and serial time",
    "transformer_blocks": "The transformer block by block",
    "quadratic_wall": "The quadratic wall",
    "kv_cache": "Key-value caches",
    "attention_sinks": "Attention sinks",
    "sampling": "Temperature, top-p and repetition",
    "pretraining": "What next-token prediction learns first",
    "curation_steps": "Each step of curation on and off",
    "scaling_laws": "A power law on one’s own ladder",
    "diminishing_returns": "Diminishing returns and data exhaustion",
    "finetuning_ranks": "How far and in which rank fine-tuning moves weights",
    "finetuning_methods": "LoRA, QLoRA and full fine-tuning",
    "forgetting": "Forgetting, overfitting and replay",
    "rlhf_stages": "What each stage of RLHF changes",
    "kl_penalty": "The KL penalty and its estimators",
    "reward_hacking": "Gold against proxy",
    "mode_collapse": "Diversity before and after",
    "sentence_embeddings": "Sentence embeddings, anisotropy and the token limit",
    "late_interaction": "Late interaction against one vector",
    "vector_indexes": "HNSW, IVF, PQ and LSH",
    "dimensionality": "The curse of dimensionality",
    "graph_traversal": "Hops and visited nodes by size",
}


def names() -> list[str]:
    """As the command line spells them, in their order."""
    return [module.replace("_", "-") for module in TITLES if _exists(module)]


def title(name: str) -> str:
    return TITLES[name.replace("-", "_")]


def find(name: str) -> Exhibit[Any]:
    """Raises: ConfigError: there is no such exhibit."""
    if name not in names():
        raise ConfigError(f"there is no exhibit '{name}'", hint=f"There are: {', '.join(names())}.")
    module = importlib.import_module(f"..exhibits.{name.replace('-', '_')}", __name__)
    exhibit: Exhibit[Any] = module.EXHIBIT
    return exhibit


def _exists(module: str) -> bool:
    return importlib.util.find_spec(f"{__package__}.exhibits.{module}") is not None

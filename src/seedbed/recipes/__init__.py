"""Recipes: one YAML file each (demo, laptop, gpu), read into one frozen config for the whole road."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ..alignment.dpo import DPOConfig
from ..alignment.grpo import GRPOConfig
from ..alignment.limits import LimitsConfig
from ..alignment.ppo import PPOConfig
from ..alignment.reward_stage import RewardConfig
from ..core.config import Config, build, load_config, merge_overrides
from ..core.errors import ConfigError
from ..curation import CurationConfig
from ..embeddings.build import IndexConfig
from ..embeddings.contrastive import ContrastiveConfig
from ..finetuning.instruct import InstructConfig
from ..models import ModelConfig
from ..scaling.ladder import LadderConfig
from ..training import TrainerConfig
from ..training.parallelism import ParallelConfig


class TokenizerConfig(Config):
    """The tokenizer: byte-level BPE trained on the corpus's training split."""

    vocab_size: int = Field(4096, ge=1, description="tokens, with the 256 bytes and the special tokens")
    pattern: str = Field("llama3", description="how text is cut into words: gpt2, cl100k, llama3, o200k or qwen2")
    min_frequency: int = Field(2, ge=1, description="a pair must occur this often to become a token")


_NOT_SHAPE = {"training", "objective", "document_masks", "z_loss", "ngram_order", "evaluation_tokens"}


class PretrainingConfig(Config):
    """The base model's shape (a Qwen3-shaped decoder) and its training."""

    hidden_size: int = Field(192, ge=8, description="width of the residual stream")
    layers: int = Field(4, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="query heads")
    kv_heads: int = Field(2, ge=1, description="key and value heads (grouped-query attention)")
    intermediate_size: int = Field(0, ge=0, description="width of the feed-forward; 0: 8/3 of hidden_size")
    context_length: int = Field(256, ge=8, description="tokens that the model sees at once")
    training: TrainerConfig = TrainerConfig()
    objective: Literal["next_token", "prefix"] = Field(
        "next_token", description="prefix: the first tokens of a window, a random number, see one another"
    )
    document_masks: bool = Field(False, description="documents in one window do not see each other")
    z_loss: float = Field(0.0, ge=0, description="weight of the squared log-partition function, against large logits")
    evaluation_tokens: int = Field(65_536, ge=1, description="tokens of a held-out split that are scored, at most")
    ngram_order: int = Field(5, ge=1, le=5, description="order of the Kneser-Ney model to compare with")

    @model_validator(mode="after")
    def _check(self) -> PretrainingConfig:
        if self.objective == "prefix" and self.document_masks:
            raise ValueError("a prefix reaches over documents: leave document_masks off for objective 'prefix'")
        return self

    def model(self, vocab_size: int) -> ModelConfig:
        shape = self.model_dump(exclude=_NOT_SHAPE)
        return build(ModelConfig, {**shape, "vocab_size": vocab_size, "eos_token_id": 0, "pad_token_id": 1})


class ForecastConfig(Config):
    """What a forecast depends on: the ladder, and the main run that it is of."""

    ladder: LadderConfig
    pretraining: PretrainingConfig


class Recipe(Config):
    """Everything that a run depends on besides its sources."""

    seed: int = Field(0, ge=0, description="of everything random; a stage's own seed goes before it")
    threads: int = Field(0, ge=0, description="processors to use, 0 for all; equal counts give equal bytes")
    parallel: ParallelConfig = ParallelConfig()
    curation: CurationConfig = CurationConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    forecast: LadderConfig
    finetuning: InstructConfig = InstructConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    grpo: GRPOConfig = GRPOConfig()
    dpo: DPOConfig = DPOConfig()
    limits: LimitsConfig = LimitsConfig()
    encoder: ContrastiveConfig = ContrastiveConfig()
    index: IndexConfig = IndexConfig()


def recipe_names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_recipe(recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name, from a YAML file or from a mapping, with dotted `overrides` on top.

    Raises:
        ConfigError: no such recipe, an unknown key or a value that cannot be.
    """
    if isinstance(recipe, Mapping):
        return _seeded(build(Recipe, merge_overrides(recipe, overrides or {})), overrides or {})
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(__file__).parent / f"{recipe}.yaml"
        if not path.exists() or str(recipe) not in recipe_names():
            known = ", ".join(recipe_names())
            raise ConfigError(f"there is no recipe '{recipe}'", hint=f"Take one of {known}, or a YAML file.")
    return _seeded(load_config(Recipe, path, overrides), overrides or {})


def _seeded(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Hand the recipe's seed to every stage whose own seed was not set."""
    if recipe.seed == 0:
        return recipe
    keys = [key for key in _seed_keys(Recipe) if key not in overrides]
    values = recipe.model_dump(mode="json")
    return build(Recipe, merge_overrides(values, {key: recipe.seed for key in keys if _at(values, key) == 0}))


def _seed_keys(cls: type[Config], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in cls.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Config):
            keys += _seed_keys(info.annotation, f"{prefix}{name}.")
        elif name == "seed" and prefix:
            keys.append(prefix + name)
    return keys


def _at(values: Any, key: str) -> Any:
    for step in key.split("."):
        values = values[step]
    return values

"""How a Hugging Face architecture translates to one of our models: its config and its tensors' names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.errors import FormatError
from ..config import ModelConfig
from ..positions import ntk_theta

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class StackNames:
    """Names of a stack of blocks: theirs before a block's number, and our module path in a block -> theirs."""

    prefix: str
    modules: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """How one Hugging Face architecture maps to our models.

    Args:
        architecture, model_type: as `config.json` names them.
        kind: of our config.
        build: our model of a config; `labels` of a classifier.
        modules: our module or parameter path -> theirs, outside of the blocks.
        stacks: our path of a stack ("" or "encoder.") -> its names.
        read_config, write_config: translate the config; reading refuses by name what we do not compute.
        tied: theirs that may repeat another tensor -> that tensor; checked, then left out.
        ignored: a pattern of tensors in some files that are no parameters.
        classifies: has labels.
        base: what stands before all names but the head's; files of the bare model lack it.
        refine: completes the fields of our config with what only the tensors tell.
        unpack, pack: from their tensors to one for each of our parameters under `module_path`'s names, and back, where
            they store several in one or transposed.
    """

    architecture: str
    model_type: str
    kind: str
    build: Callable[[ModelConfig, int], Any]
    modules: Mapping[str, str]
    stacks: Mapping[str, StackNames]
    read_config: Callable[[ConfigReader], dict[str, Any]]
    write_config: Callable[[ModelConfig], dict[str, Any]]
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: re.Pattern[str] | None = None
    base: str = ""
    classifies: bool = False
    refine: Callable[[dict[str, Any], Mapping[str, Tensor]], None] | None = None
    unpack: Callable[[Tensors, ModelConfig], Tensors] | None = None
    pack: Callable[[Tensors, ModelConfig], Tensors] | None = None

    def module_path(self, ours: str) -> str:
        """Their path of our module (or parameter): "blocks.3.attention.q_proj" -> "model.layers.3.self_attn.q_proj"."""
        for where, names in self.stacks.items():
            if ours.startswith(f"{where}blocks."):
                _, number, inner = ours.removeprefix(where).split(".", 2)
                for our_name, their_name in names.modules.items():
                    if inner == our_name or inner.startswith(our_name + "."):
                        return f"{names.prefix}.{number}.{their_name}{inner[len(our_name) :]}"
        path, _, parameter = ours.rpartition(".")
        if ours in self.modules:
            return self.modules[ours]
        if path in self.modules:
            return f"{self.modules[path]}.{parameter}"
        raise FormatError(f"'{ours}' has no place in {self.architecture}")


# What a config.json says besides the model's shape: of its training, of generation, of the library that wrote it.
_BESIDES = re.compile(
    r"architectures|model_type|(torch_)?dtype|transformers_version|_name_or_path|_attn_implementation\w*|id2label|label2id"
    r"|problem_type|finetuning_task|task_specific_params|tokenizer_class|prefix|output_past|return_dict(_in_generate)?"
    r"|use_cache|cache_implementation|gradient_checkpointing|chunk_size_feed_forward|initializer_\w+|\w*dropout\w*|\w+_pdrop"
    r"|(bos|eos|pad|sep|cls|mask|unk|decoder_start)_token_id|keys_to_ignore_at_inference|remove_invalid_values"
    r"|pooler_\w+|directionality|summary_\w+|n_ctx|reorder_and_upcast_attn|is_gated_act|dense_act_fn|tie_encoder_decoder"
    r"|pretraining_tp|max_window_layers|classifier_pooling|sparse_\w+|reference_compile|repad_logits_with_grad"
    r"|deterministic_flash_attn|sentence_transformers|sbert_ce_\w+"
    r"|do_sample|(max|min)_(new_tokens|length)|num_(beams|beam_groups|return_sequences)|early_stopping|temperature|top_[kp]"
    r"|typical_p|\w+_penalty|(encoder_)?no_repeat_ngram_size|forced_\w+_token_id|begin_suppress_tokens|output_scores"
)


class ConfigReader:
    """`config.json` with each key's type checked as it is read."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path
        self._asked: set[str] = set()

    def refuse_unknown(self) -> None:
        """Raise for a key that was not asked for, unless it asks for nothing or is known not to change the outputs."""
        for key, value in self.values.items():
            if key not in self._asked and value and not _BESIDES.fullmatch(key):
                raise FormatError(
                    f"'{key}' is {value!r:.80}, and what that asks for is not known here",
                    where=self.path,
                    hint="Remove the key if the model computes the same without it.",
                )

    def value(self, key: str) -> Any:
        self._asked.add(key)
        return self.values.get(key)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.value(key)
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
        value = self.value(key)
        if value not in (None, *allowed):
            known = " or ".join(repr(choice) for choice in allowed) or "leaving it out"
            raise FormatError(
                f"'{key}' is {value!r:.80}, which is not supported", where=self.path, hint=f"Supported: {known}."
            )

    def token(self, key: str) -> int | None:
        """A token id; of a list the first, since models state there which ids end a text."""
        value = self.value(key)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None or type(value) is int:
            return value
        raise FormatError(f"'{key}' must be a token id, not {value!r:.80}", where=self.path)

    def rope(self, default_theta: float = 10_000.0) -> dict[str, Any]:
        """`rope_theta` and `rope_scaling` of our config."""
        older = self.get("rope_scaling", dict)
        rope = ConfigReader(self.get("rope_parameters", dict) or older or {}, self.path)
        outer = self.get("rope_theta", float, default_theta)
        theta = rope.get("rope_theta", float) or outer
        kind = rope.value("rope_type") or rope.value("type") or "default"
        rope.refuse_unless("partial_rotary_factor", (1.0,))
        self.refuse_unless("partial_rotary_factor", (1.0,))
        if kind == "default":
            rope.refuse_unknown()
            return {"rope_theta": theta}
        if kind not in ("linear", "yarn", "llama3"):
            known = "default, linear, yarn, llama3"
            raise FormatError(
                f"rotary positions of type {kind!r:.80} are not supported", where=self.path, hint=f"Supported: {known}."
            )
        for key in ("mscale", "mscale_all_dim", "truncate"):
            rope.refuse_unless(key, (True,) if key == "truncate" else ())
        scaling = {
            "kind": kind,
            "factor": rope.need("factor", float),
            "original_context": None if kind == "linear" else self._original_context(rope),
            "beta_fast": rope.get("beta_fast", float),
            "beta_slow": rope.get("beta_slow", float),
            "attention_factor": rope.get("attention_factor", float),
            "low_frequency_factor": rope.get("low_freq_factor", float),
            "high_frequency_factor": rope.get("high_freq_factor", float),
        }
        rope.refuse_unknown()
        return {
            "rope_theta": theta,
            "rope_scaling": {key: value for key, value in scaling.items() if value is not None},
        }

    def _original_context(self, rope: ConfigReader) -> int | None:
        own: int | None = rope.get("original_max_position_embeddings", int)
        return self.get("max_position_embeddings", int) if own is None else own


def plain_rope(config: ModelConfig) -> ModelConfig:
    """The same model with "NTK-aware" positions written as what they are: a larger base."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "ntk":
        return config
    theta = ntk_theta(config.head_dim, config.rope_theta, scaling.factor)
    return config.replace(rope_theta=theta, rope_scaling=None)


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """`rope_parameters` of their config."""
    theta, scaling = config.rope_theta, config.rope_scaling
    if scaling is None:
        return {"rope_theta": theta, "rope_type": "default"}
    values: dict[str, Any] = {"rope_theta": theta, "rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "yarn":
        values |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            values["attention_factor"] = scaling.attention_factor
    if scaling.kind == "llama3":
        values["low_freq_factor"] = scaling.low_frequency_factor
        values["high_freq_factor"] = scaling.high_frequency_factor
    if scaling.kind != "linear":
        values["original_max_position_embeddings"] = scaling.original_context
    return values

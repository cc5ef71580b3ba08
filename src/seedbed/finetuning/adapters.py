"""Low-rank adapters (LoRA, Hu et al. 2021) in PEFT's files.

A linear layer W x becomes W x + scale * B A x with W frozen, A (rank, in) random and B (out, rank) zero at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import regex
import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.artifacts import write_atomically
from ..core.config import Config, build
from ..core.errors import ConfigError, FormatError, disk_errors
from ..core.json_files import json_bytes, read_json
from ..core.randomness import torch_generator
from ..models import Decoder, Encoder
from ..models.feedforward import Linear
from ..models.huggingface import module_paths
from ..models.weight_files import read_safetensors

ModelT = TypeVar("ModelT", bound=nn.Module)

# A head's or pooler's output is no hidden state: "all-linear" leaves them as they are, as PEFT does with heads.
_HEADS = frozenset({"lm_head", "score", "pooler"})
_SECONDS = 1.0  # for a name that is matched with an expression out of an adapter's file
_REPEATS = 10_000  # counts in braces, multiplied
_KEY = "base_model.model.{path}.lora_{factor}.weight"
# What else PEFT can put into an adapter; each changes the outputs, so none may be passed over.
_UNSUPPORTED = (
    "use_dora",
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "exclude_modules",
)


class LoRAConfig(Config):
    """Which layers get an adapter, and how large it is.

    targets: "all-linear" (every linear layer but the head), a regular expression that must match a whole module path,
        or names, each a whole path or its end ("q_proj"). Paths are ours or Hugging Face's.
    rank_stabilized: the update is scaled by alpha / sqrt(rank) (Kalajdzievski 2023) and not by alpha / rank.
    """

    rank: Annotated[int, Field(ge=1, le=1 << 14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


class LoRALinear(nn.Linear):
    """A linear layer with an adapter. It holds the very parameters of the layer that it replaces."""

    def __init__(self, base: nn.Linear, config: LoRAConfig, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.config, self.enabled = config, True
        first = torch.empty(config.rank, self.in_features)
        # Kaiming's uniform with a = sqrt(5), as PEFT draws it.
        nn.init.uniform_(first, -(self.in_features**-0.5), self.in_features**-0.5, generator=generator)
        self.lora_A = nn.Parameter(first.to(base.weight))
        self.lora_B = nn.Parameter(base.weight.new_zeros(self.out_features, config.rank))

    def forward(self, input: Tensor) -> Tensor:
        output = F.linear(input, self.weight, self.bias)
        if not self.enabled:
            return output
        dropped = F.dropout(input, self.config.dropout, self.training) if self.config.dropout else input
        return output + F.linear(F.linear(dropped, self.lora_A) * self.config.scale, self.lora_B)

    def merged(self) -> Linear:
        """The plain layer that computes the same. The weight is changed in place."""
        with torch.no_grad():
            self.weight += self.config.scale * (self.lora_B @ self.lora_A)
        plain = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = self.weight, self.bias
        return plain


def add_adapter(model: ModelT, config: LoRAConfig, generator: torch.Generator | None = None) -> ModelT:
    """Put adapters on the target layers of `model`, in place, and freeze everything else.

    Raises: ConfigError where a target matches no layer, or the model has an adapter already.
    """
    if _adapted(model):
        raise ConfigError("the model has an adapter already", hint="Merge it first.")
    chosen = _match(module_paths(model), config.targets)
    generator = torch_generator(0, "adapter") if generator is None else generator
    model.requires_grad_(False)
    for name in chosen:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        model.set_submodule(name, LoRALinear(base, config, generator))
    return model


def has_adapter(model: nn.Module) -> bool:
    """Whether any layer of `model` has an adapter."""
    return any(isinstance(module, LoRALinear) for module in model.modules())


@contextmanager
def disable_adapter(model: nn.Module) -> Iterator[None]:
    """Within, `model` computes what it did before `add_adapter`: a reference that costs no memory."""
    layers = [layer for layer in _adapted(model).values() if layer.enabled]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True


def merge_adapter(model: ModelT) -> ModelT:
    """Add the adapter's products to the weights, in place; the model is an ordinary one again and trains as a whole."""
    for name, layer in _require_adapted(model).items():
        model.set_submodule(name, layer.merged())
    return model.requires_grad_(True)


def save_adapter(model: nn.Module, directory: str | Path, base_model: str | Path | None = None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, which PEFT loads onto the saved base model.

    Args:
        base_model: where the base lies, noted for PEFT's automatic loading.
    """
    if not isinstance(model, Decoder | Encoder):
        raise FormatError(
            f"an adapter of a {type(model).__name__} does not hold its head", hint="Merge it and save the whole model."
        )
    layers, directory, paths = _require_adapted(model), Path(directory), module_paths(model)
    config = next(iter(layers.values())).config
    tensors = {}
    for name, layer in layers.items():
        for factor, tensor in (("A", layer.lora_A), ("B", layer.lora_B)):
            tensors[_KEY.format(path=paths[name], factor=factor)] = tensor.detach().cpu().contiguous()
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if isinstance(model, Decoder) else "FEATURE_EXTRACTION",
        "base_model_name_or_path": None if base_model is None else str(base_model),
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": _shortest_names([paths[name] for name in layers], list(paths.values())),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        data = save({name: tensors[name] for name in sorted(tensors)}, metadata={"format": "pt"})
        write_atomically(directory / "adapter_model.safetensors", data)
        write_atomically(directory / "adapter_config.json", json_bytes(values))


def load_adapter(model: ModelT, directory: str | Path) -> ModelT:
    """Put an adapter of ours or of PEFT's onto `model`, in place, and freeze everything else.

    Raises: FormatError for another kind of adapter, or tensors that are unknown, missing or of another shape.
    """
    directory = Path(directory)
    config = _read_config(read_json(directory / "adapter_config.json"), directory / "adapter_config.json")
    tensors = read_safetensors(directory / "adapter_model.safetensors")
    add_adapter(model, config)
    try:
        _assign(model, tensors, directory / "adapter_model.safetensors")
    except FormatError:
        for name, layer in _adapted(model).items():
            torch.nn.init.zeros_(layer.lora_B)
            model.set_submodule(name, layer.merged())
        model.requires_grad_(True)
        raise
    return model


def _assign(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    paths, wanted = module_paths(model), {}
    for name, layer in _adapted(model).items():
        wanted[_KEY.format(path=paths[name], factor="A")] = layer.lora_A
        wanted[_KEY.format(path=paths[name], factor="B")] = layer.lora_B
    for word, names in (("missing", wanted.keys() - tensors.keys()), ("unknown", tensors.keys() - wanted.keys())):
        if names:
            raise FormatError(f"{len(names)} {word} tensors, the first '{min(names)}'", where=path)
    for name, parameter in wanted.items():
        if tensors[name].shape != parameter.shape:
            shapes = f"{tuple(tensors[name].shape)} where the model needs {tuple(parameter.shape)}"
            raise FormatError(f"'{name}' has shape {shapes}", where=path)
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])


def _read_config(values: dict[str, Any], path: Path) -> LoRAConfig:
    if values.get("peft_type") != "LORA":
        raise FormatError(f"'peft_type' is {values.get('peft_type')!r:.80}, not 'LORA'", where=path)
    for key in _UNSUPPORTED:
        if values.get(key):
            raise FormatError(f"'{key}' is {values[key]!r:.80}, which is not supported", where=path)
    if values.get("bias", "none") != "none":
        raise FormatError("adapters that train biases are not supported", where=path)
    targets = values.get("target_modules")
    names = {
        "rank": "r",
        "alpha": "lora_alpha",
        "dropout": "lora_dropout",
        "rank_stabilized": "use_rslora",
    }
    fields = {ours: values[theirs] for ours, theirs in names.items() if theirs in values}
    return build(
        LoRAConfig, {**fields, "targets": tuple(targets) if isinstance(targets, list) else targets}, where=path
    )


def _match(paths: dict[str, str], targets: str | tuple[str, ...]) -> list[str]:
    """Our paths of the linear layers that `targets` names."""
    if targets == "all-linear":
        return [name for name in paths if name.rpartition(".")[2] not in _HEADS]
    chosen: set[str] = set()
    for target in (targets,) if isinstance(targets, str) else targets:
        if isinstance(targets, str):
            try:
                pattern = _compiled(target)
                found = {
                    name
                    for name, theirs in paths.items()
                    if any(pattern.fullmatch(path, timeout=_SECONDS) for path in (name, theirs))
                }
            except TimeoutError:
                raise ConfigError(
                    f"the expression '{target:.80}' takes too long on a layer's name",
                    where="targets",
                    hint="It tries the same characters in too many ways: name the layers instead.",
                ) from None
        else:
            found = {name for name, theirs in paths.items() if any(_ends(path, target) for path in (name, theirs))}
        if not found:
            leaves = sorted({path.rpartition(".")[2] for path in paths.values()})
            raise ConfigError(
                f"'{target}' matches no linear layer", where="targets", hint=f"There are: {', '.join(leaves)}."
            )
        chosen |= found
    if not chosen:
        raise ConfigError("names no layer", where="targets")
    return [name for name in paths if name in chosen]


def _compiled(target: str) -> regex.Pattern[str]:
    """An expression out of a foreign file. Counted repeats within each other are unrolled when one is compiled."""
    if math.prod(int(count) or 1 for count in regex.findall(r"(\d{1,9})\}", target)) > _REPEATS:
        raise ConfigError(f"the expression '{target:.80}' repeats too often", where="targets")
    try:
        return regex.compile(target)
    except (regex.error, RecursionError) as error:
        raise ConfigError(f"'{target:.80}' is not a regular expression ({error})", where="targets") from None


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)


def _shortest_names(chosen: list[str], every: list[str]) -> list[str]:
    """Last names where they say the same as whole paths."""
    leaves = {path.rpartition(".")[2] for path in chosen}
    same = {path for path in every if path.rpartition(".")[2] in leaves} == set(chosen)
    return sorted(leaves) if same else sorted(chosen)


def _adapted(model: nn.Module) -> dict[str, LoRALinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def _require_adapted(model: nn.Module) -> dict[str, LoRALinear]:
    layers = _adapted(model)
    if not layers:
        raise ConfigError("the model has no adapter", hint="Add or load one first.")
    return layers

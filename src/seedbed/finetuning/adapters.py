"""Adapters on a model: added, several at once, chosen, switched off, merged and taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from ..core.errors import ConfigError
from ..core.randomness import torch_generator
from ..models.feedforward import Linear
from ..models.huggingface import module_paths
from .lora import LoRAConfig, LoRALinear, LowRank
from .quantization import NF4Linear, dequantized
from .targets import match

ModelT = TypeVar("ModelT", bound=nn.Module)

DEFAULT = "default"


def add_adapter(
    model: ModelT, config: LoRAConfig, generator: torch.Generator | None = None, *, name: str = DEFAULT
) -> ModelT:
    """Put an adapter on the target layers of `model`, in place; it alone is active and trains from now on.

    Raises: ConfigError where a target matches no layer, the name is no identifier or taken, or another adapter is
        merged in.
    """
    if not name.isidentifier():
        raise ConfigError(f"'{name}' is no name for an adapter", hint="Take letters, digits and underscores.")
    if name in adapter_names(model):
        raise ConfigError(f"the model has an adapter '{name}' already", hint="Merge or remove it, or choose a name.")
    _refuse_merged(model)
    generator = torch_generator(0, "adapter") if generator is None else generator
    paths = {plain_path(path): plain_path(theirs) for path, theirs in module_paths(model).items()}
    chosen = match(paths, config.targets)
    parts = {path: LowRank(_base(model.get_submodule(path)), config, generator) for path in chosen}
    model.requires_grad_(False)
    for path, part in parts.items():
        layer = model.get_submodule(path)
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(_base(layer))
            layer.train(model.training)
            model.set_submodule(path, layer)
        layer.adapters[name] = part
    use_adapters(model, name)
    return model


def use_adapters(model: nn.Module, *names: str) -> None:
    """Make these adapters, and no others, the active ones: their products are added up and they train. None: off.

    Raises: ConfigError for a name that no layer has, or where adapters are merged in.
    """
    unknown = sorted(set(names) - set(adapter_names(model)))
    if unknown:
        raise ConfigError(
            f"the model has no adapter '{unknown[0]}'", hint=f"It has: {', '.join(adapter_names(model))}."
        )
    _refuse_merged(model)
    for layer in adapted_layers(model).values():
        layer.active = tuple(name for name in dict.fromkeys(names) if name in layer.adapters)
        for name, part in layer.adapters.items():
            part.requires_grad_(name in layer.active)


def adapter_names(model: nn.Module) -> list[str]:
    """The names of all adapters of `model`, in the order in which they were added."""
    return list(dict.fromkeys(name for layer in adapted_layers(model).values() for name in layer.adapters))


def has_adapter(model: nn.Module) -> bool:
    """Whether any layer of `model` has an adapter."""
    return bool(adapted_layers(model))


@contextmanager
def disable_adapter(model: nn.Module) -> Iterator[None]:
    """Within, `model` computes what it did before `add_adapter`: a reference that costs no memory."""
    layers = [layer for layer in adapted_layers(model).values() if layer.enabled]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True


def merge_adapter(model: ModelT, *, keep: bool = False, dequantize: bool = False) -> ModelT:
    """Add the active adapters' products to the weights, in place.

    Args:
        keep: keep the adapters and the weights beside the sums, so that `unmerge_adapter` restores the very bits.
            Otherwise the model is an ordinary one again and trains as a whole.
        dequantize: all layers in four bits become full ones; merging into four bits is refused.

    Raises: ConfigError where there is no adapter, it is merged in already, or a layer is quantised.
    """
    layers = require_adapted(model)
    _refuse_merged(model)
    if keep:
        for layer in layers.values():
            with torch.no_grad():
                layer.kept = layer.weight.detach() if layer.active else None
        return model
    plain = {path: layer.merged(dequantize) for path, layer in layers.items()}
    for path, merged in plain.items():
        model.set_submodule(path, merged)
    return (dequantized(model) if dequantize else model).requires_grad_(True)


def unmerge_adapter(model: ModelT) -> ModelT:
    """Take out what `merge_adapter(keep=True)` merged: weights and adapters are what they were.

    Raises: ConfigError where nothing is merged.
    """
    merged = [layer for layer in adapted_layers(model).values() if layer.kept is not None]
    if not merged:
        raise ConfigError("no adapter is merged in", hint="Only what was merged with keep=True can be taken out.")
    for layer in merged:
        layer.kept = None
    return model


def remove_adapter(model: ModelT, name: str = DEFAULT) -> ModelT:
    """Take an adapter off; with the last one the model is an ordinary one again and trains as a whole.

    Raises: ConfigError for a name that no layer has.
    """
    if name not in adapter_names(model):
        raise ConfigError(f"the model has no adapter '{name}'")
    _refuse_merged(model)
    for path, layer in adapted_layers(model).items():
        if name in layer.adapters:
            del layer.adapters[name]
            layer.active = tuple(one for one in layer.active if one != name)
        if not layer.adapters:
            model.set_submodule(path, layer.base)
    if not adapted_layers(model):
        model.requires_grad_(True)
    return model


def adapted_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Path of every layer that carries an adapter."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def require_adapted(model: nn.Module) -> dict[str, LoRALinear]:
    layers = adapted_layers(model)
    if not layers:
        raise ConfigError("the model has no adapter", hint="Add or load one first.")
    return layers


def _refuse_merged(model: nn.Module) -> None:
    if any(layer.kept is not None for layer in adapted_layers(model).values()):
        raise ConfigError("an adapter is merged in", hint="Take it out with unmerge_adapter first.")


def _base(layer: nn.Module) -> Linear | NF4Linear:
    base = layer.base if isinstance(layer, LoRALinear) else layer
    assert isinstance(base, Linear | NF4Linear)
    return base


def plain_path(path: str) -> str:
    """The path of a layer that may be the base of one with adapters."""
    return path.removesuffix(".base")

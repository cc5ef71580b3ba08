"""Checkpoints of a training run: PyTorch's distributed format, complete or not there, checked when read.

A checkpoint is a folder `step-00000100`: the tensors as torch.distributed.checkpoint writes them, and `checksums.json`
with the sha256 of each of these files. It is written beside its place and renamed. One that is damaged is passed over
for the one before it, which is why two are kept.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from ..core.artifacts import sha256_file, write_atomically
from ..core.console import show

_CHECKSUMS = "checksums.json"
_VALUES = "values"
_KEPT = 2

State = dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a nested mapping of tensors and JSON values, then drop all but the newest checkpoints."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"step-{step:08d}"
        temporary = self._folder / f".{place.name}.writing"
        for leftover in self._folder.glob(".*.writing"):
            shutil.rmtree(leftover)
        with _quiet():
            dcp.save(_flatten(state), storage_writer=dcp.FileSystemWriter(temporary, sync_files=False), no_dist=True)
        checksums = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
        write_atomically(temporary / _CHECKSUMS, json.dumps(checksums).encode())
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
        for old in self._places()[:-_KEPT]:
            shutil.rmtree(old)

    def load_newest(self) -> State | None:
        """The newest checkpoint that is whole, or None."""
        for place in reversed(self._places()):
            if _is_whole(place):
                return _load(place)
            show(f"  {place.name} is damaged: going back to the checkpoint before it", style="yellow")
            shutil.rmtree(place)
        return None

    def _places(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))


def _is_whole(place: Path) -> bool:
    try:
        checksums = json.loads((place / _CHECKSUMS).read_text())
        return bool(checksums) and all(sha256_file(place / name) == value for name, value in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _load(place: Path) -> State:
    reader = dcp.FileSystemReader(place)
    described = reader.read_metadata().state_dict_metadata
    flat = {
        key: torch.empty(one.size, dtype=one.properties.dtype)
        for key, one in described.items()
        if isinstance(one, TensorStorageMetadata)
    }
    with _quiet():
        dcp.load(flat, storage_reader=reader, no_dist=True)
    return _unflatten(flat)


def _flatten(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors under the JSON of their path; all other values together as one tensor of JSON text."""
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Tensor):
            tensors[json.dumps(path)] = value.detach()
            return None
        if isinstance(value, Mapping):
            kept = {key: walk(one, (*path, key)) for key, one in value.items()}
            return {key: one for key, one in kept.items() if not isinstance(value[key], Tensor)}
        return value

    values = json.dumps(walk(state, ()))
    tensors[_VALUES] = torch.frombuffer(bytearray(values.encode()), dtype=torch.uint8)
    return tensors


def _unflatten(flat: Mapping[str, Tensor]) -> State:
    state: State = json.loads(bytes(flat[_VALUES].tolist()))
    for key, tensor in flat.items():
        if key != _VALUES:
            *path, last = json.loads(key)
            place = state
            for name in path:
                place = place.setdefault(name, {})
            place[last] = tensor
    return state


def optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> State:
    """{parameter name: {state name: tensor}}: independent of the order of parameters and groups."""
    names: dict[Tensor, str] = {one: key for key, one in model.named_parameters()}
    return {names[parameter]: dict(state) for optimizer in optimizers for parameter, state in optimizer.state.items()}


def load_optimizer_state(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: State) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter] = {}
    owners = {parameter: one for one in optimizers for group in one.param_groups for parameter in group["params"]}
    for key, parameter in model.named_parameters():
        if parameter in owners and key in state:
            on_device = {name: one.to(parameter.device) for name, one in state[key].items()}
            owners[parameter].state[parameter] = on_device


class _quiet(warnings.catch_warnings):
    """PyTorch warns and logs at each save that there is one process: here that is meant."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)

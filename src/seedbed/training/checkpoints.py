"""Checkpoints of a training run: PyTorch's distributed format, complete or not there, checked when read.

A checkpoint is a folder `step-00000100`: the tensors as torch.distributed.checkpoint writes them, and `checksums.json`
with the sha256 of each of these files. It is written beside its place and renamed, by a thread, while training goes on
with the next steps. One that is damaged is passed over for the one before it, which is why two are kept; so are those
that the caller pins. Several processes write each its own part, and any number of them can read it again.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from ..core import processes
from ..core.artifacts import sha256_file, write_atomically
from ..core.console import show
from ..core.errors import ResourceError

_CHECKSUMS = "checksums.json"
_VALUES = "values"
_KEPT = 2

State = dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder, which all processes of the run see."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._group = processes.background_group()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: Mapping[str, Any], pinned: Collection[int] = ()) -> None:
        """Copy a nested mapping of tensors and JSON values, and begin to write it. When it stands, all checkpoints but
        the newest two and those of the steps `pinned` go.

        Raises:
            ResourceError: the one before could not be written; those before it are as they were.
        """
        self.wait()
        temporary = self._folder / f".{self._place(step).name}.writing"
        if processes.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(".*.writing"):
                shutil.rmtree(leftover)
            temporary.mkdir()
        processes.agree(None)  # the folder is there
        _be_quiet()
        written = dcp.async_save(
            _flatten(state), storage_writer=dcp.FileSystemWriter(temporary, sync_files=False),
            process_group=self._group, no_dist=self._group is None,
        )  # fmt: skip
        assert isinstance(written, Future)
        self._pending = self._thread.submit(self._finish, written, temporary, step, {*pinned})

    def wait(self) -> None:
        """Until what is being written stands. Raises as `save`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def settle(self) -> None:
        """`wait` where the run ends by another error already: one of a checkpoint is a line beside it."""
        try:
            self.wait()
        except ResourceError as error:
            show(f"  {error}", style="yellow")

    def _finish(self, written: Future[Any], temporary: Path, step: int, pinned: set[int]) -> None:
        try:
            written.result()
            if not processes.is_first():
                return
            checksums = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
            write_atomically(temporary / _CHECKSUMS, json.dumps(checksums).encode())
        except BaseException as error:  # torch's errors of checkpoints are no Exception
            shutil.rmtree(temporary, ignore_errors=True)
            lost = processes.is_from_outside(error)
            reason = "another process of the run is gone" if lost else _last_line(error)
            remedy = "" if lost else "Free some space. "
            raise ResourceError(
                f"the checkpoint of step {step} could not be written ({reason})", where=self._folder,
                hint=f"{remedy}Those before it are kept: started again, the run goes on from the last one.",
            ) from error  # fmt: skip
        place = self._place(step)
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
        kept = {*self.steps()[-_KEPT:], *pinned}
        for old in self.steps():
            if old not in kept:
                shutil.rmtree(self._place(old))

    def steps(self) -> list[int]:
        """The steps of the checkpoints that stand, in order."""
        return sorted(int(place.name.removeprefix("step-")) for place in self._folder.glob("step-*"))

    def load_newest(self, model: nn.Module | None = None) -> State | None:
        """The newest checkpoint that is whole, or None. Parameters of `model` that are spread over processes, and what
        the optimizer holds for them, come spread likewise."""
        for step in reversed(processes.agree(self.steps())):
            if processes.agree(_is_whole(self._place(step)) if processes.is_first() else None):
                return self.load(step, model)
            show(f"  {self._place(step).name} is damaged: going back to the checkpoint before it", style="yellow")
            if processes.is_first():
                shutil.rmtree(self._place(step))
        return None

    def load(self, step: int, model: nn.Module | None = None) -> State:
        reader = dcp.FileSystemReader(self._place(step))
        spread = (
            {} if model is None else {key: one for key, one in model.named_parameters() if isinstance(one, DTensor)}
        )
        flat = {
            key: _empty(key, one, spread)
            for key, one in reader.read_metadata().state_dict_metadata.items()
            if isinstance(one, TensorStorageMetadata)
        }
        _be_quiet()
        dcp.load(flat, storage_reader=reader, process_group=self._group, no_dist=self._group is None)
        return _unflatten(flat)

    def _place(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _is_whole(place: Path) -> bool:
    try:
        checksums = json.loads((place / _CHECKSUMS).read_text())
        return bool(checksums) and all(sha256_file(place / name) == value for name, value in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _is_wanted(key: str, here: Mapping[str, Tensor] | None) -> bool:
    """Whether a tensor of a checkpoint is of a weight that this process has a part of, or of none. A weight's name
    stands second in the path of all that is its."""
    if here is None or key == _VALUES:
        return True
    kind, name, *_ = json.loads(key)
    return kind not in ("model", "optimizer") or name in here


def _empty(key: str, described: TensorStorageMetadata, here: Mapping[str, Tensor]) -> Tensor:
    """What such a tensor is read into: spread over the processes as its weight is."""
    like = None if key == _VALUES else here.get(json.loads(key)[1])
    if not isinstance(like, DTensor) or like.shape != described.size:
        return torch.empty(described.size, dtype=described.properties.dtype)
    return torch.empty_like(like, dtype=described.properties.dtype)


def _flatten(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the JSON of their path; all other values together as one tensor of JSON text."""
    tensors: dict[str, Any] = {}

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
    """{parameter name: {state name: tensor or number}}: independent of the order of parameters and groups."""
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
            owners[parameter].state[parameter] = {
                name: one.to(parameter.device) if isinstance(one, Tensor) else one for name, one in state[key].items()
            }


def _be_quiet() -> None:
    """PyTorch warns and logs at each checkpoint that there is one process: here that is meant.

    For good, as it warns in a thread of its own, whenever that comes to it.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
    logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)

"""Artifacts: directories with data and a `manifest.json`, complete or not there.

A stage writes into a temporary sibling, `.NAME.partial`, which is renamed when its manifest is written. What a stage
needs to resume (checkpoints, say) goes to the workspace's `scratch`, which the finished artifact does not hold.
Killed at any moment and started again, a stage finds its partial directory, checks that it was begun from the same
config and inputs, and goes on.

The manifest's `fingerprint` covers what the artifact is (stage, version, config, inputs, files, metrics) and leaves out
how it came to be (seconds, memory, machine, other measurements of the clock), so equal runs have equal fingerprints.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from . import processes
from .config import Config, differing_keys, fingerprint
from .devices import machine, peak_memory_bytes, reset_peak_memory
from .errors import ArtifactError, disk_errors
from .files import write_atomically as write_atomically

MANIFEST = "manifest.json"
_KEY = ".key.json"
_SCRATCH = ".scratch"
_OF_THE_CLOCK = ("measurements.jsonl", "tensorboard")  # files and folders that differ between equal runs

Changed = Literal["refuse", "restart", "continue"]


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its directory and its manifest."""

    path: Path
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        return self.manifest["stage"]

    @property
    def fingerprint(self) -> str:
        return self.manifest["fingerprint"]

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage found out; the same for equal runs."""
        return self.manifest["metrics"]

    @property
    def measurements(self) -> dict[str, Any]:
        """What depends on the machine and its clock (tokens per second, queries per second)."""
        return self.manifest["measurements"]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]


@dataclass
class Workspace:
    """Where a stage writes while it is under way."""

    path: Path  # becomes the artifact
    resumed: bool = False  # an earlier attempt at the very same work left files here
    measurements: dict[str, Any] = field(default_factory=dict)
    accept_changes: bool = False  # that attempt had another config, and what it left is to be gone on from all the same

    @property
    def scratch(self) -> Path:
        """For checkpoints and other things that only resuming needs; removed when the stage ends."""
        folder = self.path / _SCRATCH
        folder.mkdir(exist_ok=True)
        return folder


def open_artifact(path: str | Path, stage: str | None = None) -> Artifact:
    """Open a finished artifact.

    Raises:
        ArtifactError: it is not there, not finished, not readable or not of `stage`.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        found, *_ = (manifest[name] for name in ("stage", "fingerprint", "metrics", "files"))
    except FileNotFoundError:
        wanted = f"a finished '{stage}' artifact" if stage else "a finished artifact"
        raise ArtifactError(f"not {wanted} (no {MANIFEST})", where=path, hint="Run its stage first.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"its {MANIFEST} cannot be read ({error})", where=path, hint="Build it again.") from None
    if stage is not None and found != stage:
        raise ArtifactError(f"this is a '{found}' artifact, not a '{stage}' artifact", where=path)
    return Artifact(path, manifest)


def build_artifact(
    path: str | Path,
    stage: str,
    config: Config,
    inputs: Mapping[str, Artifact | str],
    produce: Callable[[Workspace], Mapping[str, Any]],
    *,
    on_skip: Callable[[Artifact], None] | None = None,
    changed: Changed = "refuse",
) -> Artifact:
    """Return the artifact at `path`, building it with `produce` unless it is there with the same config and inputs.

    Several processes may call this together: all run `produce`, and the first alone decides and seals.

    Args:
        inputs: name to artifact, or to a fingerprint where the input is not an artifact.
        produce: writes into `workspace.path` and returns the metrics (JSON, free of clock readings).
        on_skip: called with the artifact when nothing needed doing.
        changed: what to do with checkpoints of an interrupted attempt that had another config or other inputs.

    Raises:
        ArtifactError: another run is building the same artifact, or such checkpoints are there and nobody said what to
            do with them.
    """
    path = Path(path)
    key = {
        "stage": stage,
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "inputs": {name: one if isinstance(one, str) else one.fingerprint for name, one in sorted(inputs.items())},
    }
    if not processes.is_first():
        return _build_beside(path, produce)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            _finish_interrupted_rename(path)
            present = _matching(path, key)
            if present is not None:
                processes.agree(None)
                if on_skip:
                    on_skip(present)
                return present
            workspace = _take_up(_sibling(path, "partial"), key, changed)
            processes.agree(workspace)
            reset_peak_memory()
            start = time.perf_counter()
            metrics = dict(produce(workspace))
            seconds = time.perf_counter() - start
            artifact = _seal(path, workspace, key, metrics, seconds)
            processes.agree(None)
            return artifact


def _build_beside(path: Path, produce: Callable[[Workspace], Mapping[str, Any]]) -> Artifact:
    """`build_artifact` in a process that is not the first."""
    workspace = processes.agree(None)
    if workspace is not None:
        produce(workspace)
        processes.agree(None)  # it is sealed
    return open_artifact(path)


def _take_up(partial: Path, key: dict[str, Any], changed: Changed) -> Workspace:
    """What an attempt at the same work left, or a new workspace."""
    begun = _read_json(partial / _KEY)
    if begun == key:
        return Workspace(partial, resumed=True)
    has_checkpoints = any((partial / _SCRATCH).rglob("step-*"))
    if has_checkpoints and begun is not None:
        if changed == "refuse":
            raise ArtifactError(
                f"an interrupted run with other settings left checkpoints here (differs in: "
                f"{', '.join(differing_keys(begun, key))})",
                where=partial,
                hint="Give the same settings; or begin anew (--changed restart), or go on with them all the same "
                "(--changed continue).",
            )
        if changed == "continue":
            write_atomically(partial / _KEY, json.dumps(key).encode())
            return Workspace(partial, resumed=True, accept_changes=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write_atomically(partial / _KEY, json.dumps(key).encode())
    return Workspace(partial)


def _seal(path: Path, workspace: Workspace, key: dict[str, Any], metrics: dict[str, Any], seconds: float) -> Artifact:
    shutil.rmtree(workspace.path / _SCRATCH, ignore_errors=True)
    files = {
        file.relative_to(workspace.path).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(workspace.path.rglob("*"))
        if file.is_file() and file.name != _KEY and file.relative_to(workspace.path).parts[0] not in _OF_THE_CLOCK
    }
    identity = {**key, "files": files, "metrics": metrics}
    manifest = {
        **identity,
        "fingerprint": fingerprint(identity),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "measurements": workspace.measurements,
        "machine": machine(),
    }
    write_atomically(workspace.path / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    (workspace.path / _KEY).unlink()
    _finish_interrupted_rename(path)
    return Artifact(path, manifest)


def _finish_interrupted_rename(path: Path) -> None:
    """Put a sealed partial directory in place. A kill between any two of these steps is mended by the next call."""
    partial, old = _sibling(path, "partial"), _sibling(path, "old")
    if (partial / MANIFEST).exists() and not (partial / _KEY).exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        partial.rename(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)


def _matching(path: Path, key: dict[str, Any]) -> Artifact | None:
    """The artifact at `path` if it was made from `key` and its files are all there, with their sizes."""
    try:
        artifact = open_artifact(path)
        same = all(artifact.manifest[name] == value for name, value in key.items())
        whole = same and all(
            (path / name).stat().st_size == entry["bytes"] for name, entry in artifact.manifest["files"].items()
        )
    except (ArtifactError, OSError, KeyError, TypeError):
        return None
    return artifact if whole else None


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(_sibling(path, "lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                "another process is building this", where=path, hint="Wait for it, or choose another --out."
            ) from None
        yield


def sha256_file(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint_folder(folder: str | Path) -> str:
    """sha256 over the names and contents of a folder's files, for inputs that are no artifacts.

    Raises:
        ArtifactError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError("there is no such folder", where=folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return fingerprint([(file.relative_to(folder).as_posix(), sha256_file(file)) for file in files])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

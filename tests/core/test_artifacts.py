"""Artifacts are complete or not there, skip when nothing changed, and survive a kill between any two steps."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from seedbed.core import artifacts
from seedbed.core.artifacts import Artifact, Workspace, build_artifact, open_artifact
from seedbed.core.config import Config
from seedbed.core.errors import ArtifactError, ResourceError


class _Config(Config):
    value: int = 1


def _build(path: Path, value: int = 1, inputs: Mapping[str, Artifact | str] | None = None) -> tuple[Artifact, bool]:
    skipped: list[Artifact] = []

    def produce(workspace: Workspace) -> dict[str, int]:
        (workspace.path / "data.txt").write_text(str(value))
        (workspace.scratch / "checkpoint").write_text("x")
        workspace.measurements["speed"] = 1.5
        return {"value": value}

    artifact = build_artifact(path, "demo", _Config(value=value), inputs or {}, produce, on_skip=skipped.append)
    return artifact, bool(skipped)


def test_builds_once_and_again_when_config_input_or_files_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first, skipped = _build(path)
    assert not skipped
    assert first.metrics == {"value": 1}
    assert first.measurements == {"speed": 1.5}
    assert sorted(p.name for p in path.iterdir()) == ["data.txt", "manifest.json"]
    assert _build(path)[1]
    assert not _build(path, value=2)[1]
    assert open_artifact(path).metrics == {"value": 2}
    assert not _build(path, value=2, inputs={"x": "abc"})[1]
    (path / "data.txt").write_text("longer than before")
    assert not _build(path, value=2, inputs={"x": "abc"})[1]
    assert (path / "data.txt").read_text() == "2"


def test_fingerprint_leaves_out_the_clock(tmp_path: Path) -> None:
    one, two = _build(tmp_path / "a")[0], _build(tmp_path / "b")[0]
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != _build(tmp_path / "c", value=3)[0].fingerprint


@pytest.mark.parametrize("step", range(1, 7))
def test_a_kill_at_any_rename_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    path = tmp_path / "a"
    _build(path, value=1)

    calls = 0
    real_rename, real_unlink, real_rmtree = Path.rename, Path.unlink, artifacts.shutil.rmtree

    def killing(real):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == step:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(real_rename))
        patch.setattr(Path, "unlink", killing(real_unlink))
        patch.setattr(artifacts.shutil, "rmtree", killing(real_rmtree))
        with pytest.raises(KeyboardInterrupt):
            _build(path, value=2)
    assert _build(path, value=2)[0].metrics == {"value": 2}
    assert (path / "data.txt").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")] == []


def test_resume_only_from_the_same_work(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def dies(workspace: Workspace) -> dict[str, int]:
        (workspace.scratch / "checkpoint").write_text("5")
        raise KeyboardInterrupt

    def continues(workspace: Workspace) -> dict[str, bool]:
        return {"resumed": workspace.resumed, "checkpoint": (workspace.scratch / "checkpoint").exists()}

    for value, resumed in ((1, True), (2, False)):
        shutil.rmtree(path, ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            build_artifact(path, "demo", _Config(value=1), {}, dies)
        made = build_artifact(path, "demo", _Config(value=value), {}, continues)
        assert made.metrics == {"resumed": resumed, "checkpoint": resumed}


def test_two_writers_and_damaged_manifests_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def nested(workspace: Workspace) -> dict[str, int]:
        with pytest.raises(ArtifactError, match="another process"):
            _build(path)
        return {}

    build_artifact(path, "demo", _Config(), {}, nested)
    with pytest.raises(ArtifactError, match="'demo' artifact, not a 'corpus'"):
        open_artifact(path, "corpus")
    with pytest.raises(ArtifactError, match="Run its stage first"):
        open_artifact(tmp_path / "none", "corpus")
    for damage in ("", "[]", "{}", json.dumps({"stage": "demo"})):
        (path / "manifest.json").write_text(damage)
        with pytest.raises(ArtifactError, match="cannot be read"):
            open_artifact(path)


@pytest.mark.parametrize(
    "problem",
    [OSError(errno.ENOSPC, "x"), RuntimeError("IO error: No space left on device"), BaseException("short file")],
)
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    def full(workspace: Workspace) -> dict[str, int]:
        (workspace.scratch / "checkpoint").write_text("5")
        raise problem

    if "short" in str(problem):  # a writer that does not say why: the disk itself is asked
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ResourceError, match=r"no space left on the device\. Free some space"):
        build_artifact(tmp_path / "a", "demo", _Config(), {}, full)
    made = build_artifact(tmp_path / "a", "demo", _Config(), {}, lambda work: {"resumed": work.resumed})
    assert made.metrics == {"resumed": True}


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def wrong(workspace: Workspace) -> dict[str, int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_artifact(tmp_path / "a", "demo", _Config(), {}, wrong)

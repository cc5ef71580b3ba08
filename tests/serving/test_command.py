"""The commands as they are typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.run import Run


def _run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_keys_are_made_listed_and_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    code, secret = _run("keys", "new", "me", "--file", file)
    assert code == 0
    assert secret.startswith("sk-seedbed-")
    _, listed = _run("keys", "list", "--file", file)
    assert "me" in listed
    assert secret.strip() not in listed
    number = listed.splitlines()[-2].split("│")[1].strip()
    assert _run("keys", "revoke", number, "--file", file)[0] == 0
    assert _run("keys", "revoke", number, "--file", file)[0] == 1


def test_a_run_is_served_until_it_is_told_to_stop(tiny_run: Run) -> None:
    command = [sys.executable, "-m", "seedbed", "serve", str(tiny_run.path), "--port", "0", "--stage", "base"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().split()[2]
    assert [one["id"] for one in httpx.get(f"{address}v1/models").json()["data"]] == ["base", "encoder"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "GET /v1/models 200" in errors
    assert "Traceback" not in errors


def test_what_cannot_be_served_is_told(tiny_run: Run, tmp_path: Path) -> None:
    for words, told in (
        (("--host", "0.0.0.0"), "seedbed keys new"),
        (("--keys", tmp_path / "none.json", "--port", "0"), "seedbed keys new"),
        (("--stage", "reward", "--port", "0"), "'base', 'sft' or 'policy'"),
    ):
        code, said = _run("serve", tiny_run.path, *words)
        assert code == 1
        assert told in " ".join(said.split())

"""`seedbed align` on a user's own files: every method ends, and what cannot be used is counted with its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from seedbed.alignment.best_of_n import best_of_n
from seedbed.cli.app import app
from seedbed.core.artifacts import open_artifact
from seedbed.finetuning.instruct import load_decoder
from seedbed.pipeline import align_alone
from seedbed.tokenizers import Tokenizer

_LONG = "which of them " * 60
_NAMES = ("getone", "setone", "addall", "popkey", "getkey", "addone", "popall", "setkey", "gettwo", "settwo")
_SMALL = (
    "rollouts=4", "iterations=2", "epochs=1", "minibatches=1", "max_new_tokens=6", "evaluation_prompts=2",
    "evaluation_samples=1",
)  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _run(method: str, sft: Path, data: Path, out: Path, *options: str) -> str:
    arguments = ["align", method, "--model", str(sft), "--data", str(data), "--out", str(out)]
    found = CliRunner().invoke(app, [*arguments, *(part for one in options for part in ("-o", one))])
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


def _pairs() -> list[dict[str, Any]]:
    good = [{"prompt": f"What is `m.{name}`?", "chosen": f"`m.{name}` is it.", "rejected": "No."} for name in _NAMES]
    same = good[0] | {"rejected": good[0]["chosen"]}
    return [good[0] | {"chosen": " "}, same, good[0] | {"prompt": _LONG}, *good]


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_pairs_that_cannot_be_used_are_counted_with_their_rows(sft: Path, tmp_path: Path, method: str) -> None:
    small = {
        "reward": ("prompts=4", "samples=2", "max_new_tokens=4", "training.steps=2", "held_out_share=0.4"),
        "dpo": ("max_new_tokens=4", "training.steps=2", "held_out_share=0.4", "evaluation_prompts=2"),
    }[method]
    data = _write(tmp_path / "pairs.jsonl", _pairs())
    said = _run(method, sft, data, tmp_path / "out", *(f"{method}.{one}" for one in small))
    assert "1 row left out: empty chosen (line 1)" in said
    assert "1 row left out: chosen equals rejected (line 2)" in said
    assert "1 row left out: longer than 96 tokens (line 3)" in said
    assert (tmp_path / "out/model.safetensors").exists()


def test_an_interrupted_run_of_other_settings_is_begun_anew_or_gone_on_with(
    sft: Path, tmp_path: Path, killed_after: Callable[[int], AbstractContextManager[None]]
) -> None:
    data = _write(tmp_path / "pairs.jsonl", _pairs()[3:])
    small = {"dpo.max_new_tokens": 4, "dpo.held_out_share": 0.4, "dpo.evaluation_prompts": 2,
             "dpo.training.steps": 4, "dpo.training.checkpoint_every": 1}  # fmt: skip
    with killed_after(2):
        align_alone("dpo", sft, data, tmp_path / "out", overrides=small)
    options = [f"{key}={value}" for key, value in (small | {"dpo.training.steps": 3}).items()]
    arguments = ["align", "dpo", "--model", str(sft), "--data", str(data), "--out", str(tmp_path / "out")]
    arguments += [part for one in options for part in ("-o", one)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code != 0
    assert "--changed restart" in " ".join(refused.output.split())
    found = CliRunner().invoke(app, [*arguments, "--changed", "continue"])
    assert found.exit_code == 0, found.output
    assert open_artifact(tmp_path / "out").metrics["steps"] == 3


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_prompts_beyond_the_context_are_counted_with_their_rows(sft: Path, tmp_path: Path, method: str) -> None:
    prompts = [{"question": _LONG, "answer": "#### 1"}]
    prompts += [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(16)]
    data = _write(tmp_path / "prompts.jsonl", prompts)
    small = [f"{method}.{one}" for one in (*_SMALL, *(["group=2"] if method == "grpo" else []))]
    arguments = ["align", method, "--model", str(sft), "--data", str(data), "--out", str(tmp_path / "out")]
    options = [part for one in small for part in ("-o", one)]
    found = CliRunner().invoke(app, [*arguments, "--reward", "arithmetic+0.1*length:4", *options])
    assert found.exit_code == 0, found.output
    reason = "1 row left out: the prompt leaves no room for an answer of 6 tokens in the context (line 1)"
    assert reason in " ".join(found.output.split())
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["first_ratio"] == pytest.approx(1, abs=1e-5)
    assert rows[0]["first_clipped"] == 0
    found = CliRunner().invoke(
        app, ["align", method, "--model", str(sft), "--data", str(_write(tmp_path / "long.jsonl", prompts[:1])),
              "--out", str(tmp_path / "none"), "--reward", "arithmetic", *options],
    )  # fmt: skip
    assert found.exit_code != 0
    assert "no prompt leaves room" in " ".join(found.output.split())


def test_the_best_of_n_is_what_the_reward_likes_best(sft: Path) -> None:
    def reward(answers: Any) -> np.ndarray:
        return np.array([float((one.ids % 7).sum()) for one in answers], np.float32)

    model, tokenizer = load_decoder(sft).eval(), Tokenizer.load(sft)
    prompts = ["What is `m.getone`?", "Describe `m.popall`."]
    (first, _), best = (best_of_n(model, tokenizer, prompts, reward, n, max_new_tokens=6, seed=3) for n in (1, 8))
    assert [one.prompt for one in best] == prompts
    assert reward([best[0]])[0] >= reward([first])[0]
    again = best_of_n(model, tokenizer, prompts, reward, 8, max_new_tokens=6, seed=3)
    assert [one.text for one in again] == [one.text for one in best]

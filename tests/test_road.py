"""The whole road on a tiny corpus: it ends, it opens elsewhere, it is the same twice, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import seedbed
from seedbed.core.artifacts import open_artifact
from seedbed.core.errors import ArtifactError, ConfigError
from seedbed.pipeline import STAGES, run_stage
from seedbed.run import Run

from .tiny import RECIPE, contents


@pytest.fixture
def documents(tiny_documents: Path) -> Path:
    return tiny_documents


@pytest.fixture
def run(tiny_run: Run) -> Run:
    return tiny_run


def test_every_stage_leaves_its_artifact(run: Run) -> None:
    assert [*run.metrics, "report"] == list(STAGES)
    assert "<html" in run.report.read_text(encoding="utf-8")
    corpus = run.metrics["corpus"]
    kept = sum(split["documents"] for split in corpus["kept"].values())
    assert corpus["read"]["documents"] == kept + sum(rule["documents"] for rule in corpus["drops"])
    assert len(dict(run.key_figures())) > 5


def test_the_forecast_stands_in_the_ledger_before_the_run(run: Run) -> None:
    forecast, score = (json.loads(line) for line in (run.path / "ledger.jsonl").read_text().splitlines())
    assert (forecast["kind"], score["kind"]) == ("forecast", "score")
    assert score["body"]["forecast"] == forecast["hash"]
    assert score["body"]["loss"] == pytest.approx(run.metrics["base"]["validation_loss"])
    base = open_artifact(run.path / "base")
    assert base.manifest["inputs"]["forecast"] == open_artifact(run.path / "forecast").fingerprint


def test_nothing_is_done_twice(run: Run, documents: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.suffix != ".lock" and path.is_file()
    }
    again = seedbed.grow([str(documents)], RECIPE, run.path)
    changed = {
        path.name for path, when in before.items() if path.exists() and path.stat().st_mtime_ns != when
    } - {"run.json"}  # fmt: skip
    assert again.metrics == run.metrics
    assert not changed


def test_equal_seeds_give_equal_bytes(run: Run, documents: Path, tmp_path: Path) -> None:
    again = seedbed.grow([str(documents)], RECIPE, tmp_path / "again")
    assert contents(again.path) == contents(run.path)
    other = seedbed.pipeline.load_recipe(RECIPE, {"seed": 7})
    assert other.ppo.seed == other.finetuning.seed == other.pretraining.training.seed == 7


def test_models_open_in_the_libraries_that_people_use(run: Run) -> None:
    import transformers
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer as PeerTokenizer

    from seedbed.embeddings import SentenceEncoder
    from seedbed.models import load_model
    from seedbed.tokenizers import Tokenizer

    text = "How do I read a CSV file? naïve 数据 🙂"
    ours, peer = Tokenizer.load(run.path / "base"), PeerTokenizer.from_file(str(run.path / "base" / "tokenizer.json"))
    ids = ours.encode(text)
    assert (
        ids.tolist()
        == peer.encode(text).ids
        == transformers.AutoTokenizer.from_pretrained(run.path / "base")(text).input_ids
    )
    tokens = torch.from_numpy(ids.astype(np.int64))[None]
    for stage in ("base", "sft", "policy"):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(run.path / stage)
        with torch.no_grad():
            torch.testing.assert_close(
                load_model(run.path / stage)(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5
            )
    sentences = ["read a csv file", text]
    vectors = SentenceTransformer(str(run.path / "encoder"), device="cpu").encode(sentences, normalize_embeddings=True)
    mine = SentenceEncoder.load(run.path / "encoder").encode(sentences, normalize=True)
    np.testing.assert_allclose(mine, vectors, atol=1e-5)


def test_a_run_answers_and_searches(run: Run) -> None:
    assert run.generate("What is `json.dumps`?", max_new_tokens=8, seed=1) == run.generate(
        "What is `json.dumps`?", max_new_tokens=8, seed=1
    )
    assert isinstance(run.generate("The", stage="base", max_new_tokens=4), str)
    with pytest.raises(ConfigError, match="no voice"):
        run.generate("The", stage="corpus")
    assert run.search("json.dumps", k=3, mode="bm25")[0].title.startswith("json")
    assert len(run.search("read a csv file", k=5)) == 5


def test_one_stage_alone_and_what_is_missing(run: Run, tmp_path: Path) -> None:
    assert run_stage("tokenizer", run.path).fingerprint == open_artifact(run.path / "tokenizer").fingerprint
    with pytest.raises(ConfigError, match="no stage 'compost'"):
        run_stage("compost", run.path)
    with pytest.raises(ArtifactError, match="this is no run"):
        seedbed.open_run(tmp_path)
    (tmp_path / "run.json").write_text((run.path / "run.json").read_text())
    with pytest.raises(ArtifactError, match="Run its stage first"):
        run_stage("base", tmp_path)


def _start(documents: Path, recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "seedbed", "grow", str(documents), "--recipe", str(recipe), "--out", str(out)]
    # A shell's background job ignores SIGINT and hands that down; a person's terminal does not.
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_killed_in_every_stage_it_ends_with_the_same_bytes(run: Run, documents: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "killed"
    recipe.write_text(yaml.safe_dump(RECIPE))
    moment = random.Random(11)
    for stage in STAGES:
        process = _start(documents, recipe, out)
        partial = out / f".{stage}.partial"
        while process.poll() is None and not partial.exists() and not (out / stage).exists():
            time.sleep(0.002)
        time.sleep(moment.random() * 0.6)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = _start(documents, recipe, out)
    assert process.wait() == 0, process.communicate()[1].decode()
    process.communicate()
    assert contents(out) == contents(run.path)
    for stage in STAGES:
        if stage != "report":  # its page holds seconds
            assert open_artifact(out / stage).fingerprint == open_artifact(run.path / stage).fingerprint


def test_ctrl_c_says_how_to_go_on(documents: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    process = _start(documents, recipe, tmp_path / "run")
    while process.poll() is None and not (tmp_path / "run" / ".forecast.partial").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command again goes on" in error.decode()
    assert (tmp_path / "run" / "tokens" / "manifest.json").exists()

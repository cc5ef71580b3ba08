"""What a person meets at the command line: help that explains, and one clear sentence when something cannot be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from seedbed.cli.app import app

from ..tiny import RECIPE, write_documents


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("--help",), ("grow", "pretrain", "chat", "doctor", "scaling")),
        (("grow", "--help"), ("--python-docs", "--recipe", "pretraining.training.steps", "curation.preset")),
        (("pretrain", "--help"), ("--run", "pretraining.hidden_size", "peak learning rate")),
        (("align", "ppo", "--help"), ("ppo.kl_coefficient", "price of one nat")),
        (("finetune", "--help"), ("--model", "--data", "--method", "finetuning.full")),
        (("search", "--help"), ("--mode", "hybrid", "default: (the newest one below runs/)")),
        (("export", "qdrant", "--help"), ("--url", "QDRANT_API_KEY", "--replace")),
        (("scaling", "fit", "--help"), ("params, tokens, loss", "--bootstrap")),
    ],
)
def test_help_explains(command: tuple[str, ...], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = _call(*command)
    assert result.exit_code == 0
    for word in words:
        assert word in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grow",), "no source was named. Name a folder or file, or give --python-docs"),
        (("grow", "missing-folder", "--out", "{out}"), "missing-folder"),
        (("grow", "{docs}", "--recipe", "compost", "--out", "{out}"), "there is no recipe 'compost'"),
        (("grow", "{docs}", "--out", "{out}", "-o", "tokenizer.vocab=3"), "unknown key 'tokenizer.vocab' (known "),
        (("grow", "{docs}", "--out", "{out}", "-o", "tokenizer.vocab_size=200"), "vocab_size 200 is too small"),
        (("grow", "{docs}", "--out", "{out}", "-o", "steps"), "is not an override"),
        (("grow", "{docs}", "--out", "/proc/nothing"), "/proc/nothing"),
        (("pretrain", "--run", "{out}"), "this is no run"),
        (("search", "x", "--run", "{out}"), "this is no run"),
        (("finetune", "--model", "{docs}"), "--data, --out not given"),
        (("finetune", "--run", "{out}", "--data", "x"), "--run already says"),
        (("scaling", "fit", "{docs}/bad.csv"), "no column 'params'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(arguments: tuple[str, ...], message: str, recipe: Path, tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs")
    (docs / "bad.csv").write_text("size,text\n1,a\n")
    filled = [one.format(docs=docs, out=tmp_path / "out") for one in arguments]
    if arguments[0] == "grow" and "--recipe" not in arguments:
        filled += ["--recipe", str(recipe)]
    result = _call(*filled)
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_empty_and_tiny_folders_are_refused(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "docs").mkdir()
    empty = _call("grow", tmp_path / "docs", "--recipe", recipe, "--out", tmp_path / "run")
    assert empty.exit_code == 1
    assert "the sources hold no documents" in empty.output
    (tmp_path / "docs" / "one.txt").write_text("One short text that is long enough to keep, but alone in its folder.")
    few = _call("grow", tmp_path / "docs", "--recipe", recipe, "--out", tmp_path / "run")
    assert few.exit_code == 1
    assert "document" in few.output


def test_a_corpus_too_small_for_the_recipe_is_refused(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs")
    result = _call("grow", docs, "--recipe", "demo", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "Use more text" in result.output.replace("\n", " ")


def test_damaged_files_are_rejected_and_the_run_goes_on(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs")
    (docs / "program.txt").write_bytes(bytes(range(256)) * 20)
    (docs / "latin.txt").write_bytes("naïve café ".encode("latin-1") * 30)
    (docs / "cut.txt.gz").write_bytes(gzip.compress(b"some text " * 100)[:25])
    rows = [json.dumps({"text": f"Row number {n} says something that is long enough to be kept."}) for n in range(3)]
    (docs / "rows.jsonl").write_text("\n".join([rows[0], "{broken", rows[1], rows[2]]))
    (docs / "table.csv").write_text("size,colour\n1,red\n")
    result = _call("curate", docs, "--out", tmp_path / "corpus")
    assert result.exit_code == 0, result.output
    import pyarrow.parquet as pq

    rules = {"binary", "not_utf8", "broken_gzip", "bad_json", "no_text_column"}
    table = pq.read_table(tmp_path / "corpus" / "rejected").to_pylist()
    reasons = {row["source"]: row["rule"] for row in table if row["rule"] in rules}
    assert reasons == {
        "program.txt": "binary", "latin.txt": "not_utf8", "cut.txt.gz": "broken_gzip", "rows.jsonl": "bad_json",
        "table.csv": "no_text_column",
    }  # fmt: skip
    assert any(row["id"].startswith("rows.jsonl") and "2" in row["id"] + row["detail"] for row in table)


def test_doctor_and_scaling_work_alone(tmp_path: Path) -> None:
    assert "SIMD level" in _call("doctor").output
    runs = [(n, d) for n in (1e6, 3e6, 1e7, 3e7) for d in (1e8, 3e8, 1e9)]
    lines = [f"{n:.0f},{d:.0f},{1.7 + 400 / n**0.34 + 400 / d**0.28}" for n, d in runs]
    (tmp_path / "runs.csv").write_text("\n".join(["params,tokens,loss", *lines]))
    assert _call("scaling", "fit", tmp_path / "runs.csv", "--out", tmp_path / "fit.json").exit_code == 0
    assert json.loads((tmp_path / "fit.json").read_text())["alpha"] == pytest.approx(0.34, rel=0.02)
    planned = _call("scaling", "plan", "--fit", tmp_path / "fit.json", "--flops", "1e18")
    assert planned.exit_code == 0
    assert "tokens per parameter" in planned.output
    assert _call("scaling", "plan", "--fit", tmp_path / "runs.csv", "--flops", "1e18").exit_code == 1

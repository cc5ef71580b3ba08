"""`seedbed tokenizer audit` on a tokenizer alone and on a run, and `seedbed tokenizer compare`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from seedbed import pipeline
from seedbed.cli.app import app
from seedbed.reports.run import write_run_report
from seedbed.tokenizers import train_bpe

from ..tiny import RECIPE, write_documents


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tokenizer", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["The quick brown fox jumps over the lazy dog."] * 5, 300, "gpt2").save(path)
    return path


def test_a_tokenizer_alone(tokenizer: Path, tmp_path: Path) -> None:
    parallel = tmp_path / "parallel.zip"
    with zipfile.ZipFile(parallel, "w") as archive:
        archive.writestr("eng.txt", "The quick brown fox")
        archive.writestr("rus.txt", "Быстрая лиса")
        archive.writestr("jpn.txt", "すばしっこい狐")
        archive.writestr("mis.txt", "")
    (tmp_path / "text.txt").write_text("The lazy dog jumps.")
    out = tmp_path / "out"
    result = _call("audit", tokenizer, "--parallel", parallel, "--texts", tmp_path / "text.txt", "--out", out)
    assert result.exit_code == 0, result.output
    for words in ("Russian", "left out: mis", "Gini over 3 languages", "text.txt"):
        assert words in result.output
    found = json.loads((out / "audit.json").read_text())
    assert [one["language"] for one in found["parity"]["languages"]] == ["Russian", "Japanese", "English"]
    assert found["parity"]["languages"][1]["tokens_per_word"] is None
    assert found["glitches"] is None
    assert found["ids"]["counts"]["special"] == 1
    assert (out / "premium.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "premium.svg").read_text().startswith("<svg")
    assert "Russian" in (out / "index.html").read_text()


def test_a_run_brings_its_model_and_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {name: pipeline.STAGES[name] for name in ("corpus", "tokenizer", "tokens", "forecast", "base")}
    monkeypatch.setattr(pipeline, "STAGES", stages)
    run = tmp_path / "run"
    pipeline.grow([str(write_documents(tmp_path / "documents"))], RECIPE, run)
    result = _call("audit", run, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for words in ("Ids that the model hardly learnt", "trained on", "AUROC", "validation"):
        assert words in result.output
    found = json.loads((tmp_path / "out" / "audit.json").read_text())["glitches"]
    assert found["tied"]
    assert {"cosine", "norm"} <= found["auroc"].keys()
    assert found["tokens"][0]["verdict"] in ("confirmed", "likely", "unclear", "rejected")
    assert (tmp_path / "out" / "trained.png").exists()
    # Counts are of this tokenizer's tokens or of none.
    other = tmp_path / "other"
    train_bpe(["another text"] * 3, 260, "gpt2").save(other)
    result = _call("audit", other, "--model", run / "base", "--tokens", run / "tokens")
    assert result.exit_code == 1
    assert "made with another tokenizer" in result.output
    write_run_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Ids that the model hardly learnt" in page
    assert "__THEME__" not in page


def test_compare(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The gardener sows peas in field {number} and reaps them." for number in range(60)))
    result = _call("compare", text, "--vocab-sizes", "280,300", "--algorithms", "bpe", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "held-out text" in result.output
    assert len(json.loads((tmp_path / "out" / "compare.json").read_text())["trained"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "{tmp}"), "neither a run nor a directory with a tokenizer.json"),
        (("audit", "{tok}", "--parallel", "{tok}"), "there is no text file in it"),
        (("audit", "{tok}", "--texts", "{tmp}/none.txt"), "none.txt: cannot be read"),
        (("audit", "{tok}", "--model", "{tmp}"), "config.json: no such file"),
        (("compare", "{tmp}/none"), "no such file or folder"),
        (("compare", "{tok}/tokenizer.json", "--vocab-sizes", "many"), "'many' are no sizes"),
        (("compare", "{tmp}/text.txt", "--algorithms", "lzw", "--vocab-sizes", "300"), "no algorithm 'lzw'"),
    ],
)
def test_what_cannot_be_done(arguments: tuple[str, ...], message: str, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A line of text.\n\n" * 20)
    result = _call(*(one.format(tmp=tmp_path, tok=tokenizer) for one in arguments))
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())

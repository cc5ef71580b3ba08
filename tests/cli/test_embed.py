"""`seedbed embed evaluate` and `seedbed embed words`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from seedbed.cli.app import app
from seedbed.embeddings import SentenceEncoder, WordVectors
from seedbed.models import Encoder, ModelConfig
from seedbed.tokenizers import train_bpe

TOPICS = {"csv": "rows and columns of a table", "http": "a server answers requests", "zip": "packed archives"}


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})
    assert result.exit_code in (0, 1), result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("embed")
    rows = [{"text": f"Number {n}: {text}.", "label": name} for name, text in TOPICS.items() for n in range(8)]
    (base / "classes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (base / "notes.md").write_text(" ".join(row["text"] for row in rows))
    (base / "sts.csv").write_text("a table of rows,rows of a table,5\na server,archives,0\nrows,requests,1\n")
    tokenizer = train_bpe([row["text"] for row in rows], 300, special_tokens=("<|endoftext|>",), threads=1)
    shape = {"kind": "encoder", "vocab_size": tokenizer.vocab_size, "hidden_size": 16, "layers": 1, "heads": 2,
             "context_length": 64}  # fmt: skip
    model = Encoder(ModelConfig(**shape), torch.Generator().manual_seed(0))
    SentenceEncoder(model, tokenizer).save(base / "encoder")
    return base


def test_evaluate_says_how_well_vectors_agree_with_people(folder: Path) -> None:
    told = call(
        "embed", "evaluate", str(folder / "encoder"), "--sts", str(folder / "sts.csv"), "--classes",
        str(folder / "classes.jsonl"),
    )  # fmt: skip
    assert "3 pairs" in told
    assert "8 texts held out" in told
    assert "V-measure" in told
    assert "Give --sts, --classes or both" in call("embed", "evaluate", str(folder / "encoder"))
    (folder / "bad.jsonl").write_text('{"text": "no label"}\n')
    refused = call("embed", "evaluate", str(folder / "encoder"), "--classes", str(folder / "bad.jsonl"))
    assert "no 'text' with a 'label'" in refused


@pytest.mark.parametrize("distilled", [False, True])
def test_words_are_learnt_or_distilled_and_written(folder: Path, distilled: bool) -> None:
    out = folder / "vectors.txt"
    options = ["--encoder", str(folder / "encoder")] if distilled else []
    told = call(
        "embed", "words", str(folder / "notes.md"), "--out", str(out), "--format", "text", "-o", "min_count=4", "-o",
        "dim=8", "--near", "rows", *options,
    )  # fmt: skip
    vectors = WordVectors.load(out, binary=False)
    assert "columns" in vectors
    assert vectors.dim == (16 if distilled else 8)
    assert vectors.neighbours("rows", 1)[0][0] in told

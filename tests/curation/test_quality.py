"""The quality classifier: it learns, its probabilities are honest, and its file is checked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seedbed.core.errors import DataError, FormatError
from seedbed.curation import curate
from seedbed.curation.quality import QualityModel


def _parts(path: Path, member: str, size: int, count: int) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        text = archive.read(member).decode("utf-8", "replace")
    return [text[at : at + size] for at in range(0, size * count, size)]


def test_science_from_chat(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    good = _parts(shared_data("text/abc.zip"), "abc/science.txt", 500, 220)
    bad = _parts(shared_data("text/webtext.zip"), "webtext/overheard.txt", 500, 220)
    model = QualityModel.train(good[:120], bad[:120])
    assert model.figures["accuracy"] > 0.95
    assert model.figures["auc"] > 0.98
    scores = model.score([*good[120:], *bad[120:]])
    assert (scores[:100] > 0.5).mean() > 0.95
    assert (scores[100:] < 0.5).mean() > 0.95
    model.save(tmp_path / "model")
    assert np.array_equal(QualityModel.load(tmp_path / "model").score(good[:9]), model.score(good[:9]))
    docs = tmp_path / "docs"
    docs.mkdir()
    for n, text in enumerate([*good[120:170], *bad[120:170]]):
        (docs / f"{n:03d}.txt").write_text(text)
    report = curate(docs, tmp_path / "out", quality_model=str(tmp_path / "model"))
    dropped = {drop["rule"]: drop["documents"] for drop in report.metrics["drops"]}
    assert dropped.keys() == {"quality"}
    assert 45 <= dropped["quality"] <= 52


def test_probabilities_are_honest_where_classes_overlap() -> None:
    generator = np.random.default_rng(0)

    def text(share: float) -> str:
        return " ".join(
            "good" + str(generator.integers(9)) if generator.random() < share else "filler" for _ in range(6)
        )

    model = QualityModel.train([text(0.6) for _ in range(600)], [text(0.4) for _ in range(600)])
    assert model.figures["calibration_error"] < 0.1
    assert 0.55 < model.figures["accuracy"] < 0.9


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 good and 50 bad examples"):
        QualityModel.train(["a"] * 3, ["b"] * 50)
    path = tmp_path / "model"
    for wrong in (b"", b"{}\n", b'{"format": "seedbed-quality", "version": 1}\n' + bytes(4 << 18), b"\xff\n\0"):
        path.write_bytes(wrong)
        with pytest.raises(FormatError, match="no quality model"):
            QualityModel.load(path)

"""Parallel text from folders and archives, and what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.core.errors import DataError
from seedbed.evaluation.languages import language_name, well_known
from seedbed.evaluation.parallel import read_parallel


def test_names() -> None:
    assert language_name("eng") == "English"
    assert language_name("cmn_hans") == "Chinese (simplified)"
    assert language_name("por_BR") == "Portuguese (Brazil)"
    assert language_name("xyz_1") == "xyz_1"
    assert well_known(["Zulu", "Thai", "Persian (2)", "Persian (1)"]) == ["Persian (1)", "Thai"]


def test_a_folder_and_a_zip_of_it_are_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "eng.txt").write_text("  One\n\n   two\n")
    (folder / "deu.txt").write_text("\ufeffEins\nzwei")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    expected = {"German": "Eins\nzwei", "English": "One\ntwo"}
    assert read_parallel(folder) == expected
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inner/{file.name}")
    assert read_parallel(tmp_path / "texts.zip") == expected


def test_the_declaration_of_human_rights(shared_data: Callable[[str], Path]) -> None:
    found = read_parallel(shared_data("text/udhr2.zip"))
    assert len(found) == 388
    assert found["English"].startswith("Universal Declaration of Human Rights\nPreamble\n")
    assert len(well_known(found)) > 35


def test_what_is_refused(tmp_path: Path) -> None:
    def zipped(name: str, content: bytes) -> Path:
        path = tmp_path / "bad.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return path

    for path, message in [
        (lambda: zipped("../eng.txt", b"x"), "unsafe_path"),
        (lambda: zipped("eng.txt", bytes(80 << 20)), "zip_bomb"),
        (lambda: zipped("eng.txt", b"caf\xe9"), "eng.txt: the text is not UTF-8"),
        (lambda: zipped("eng.pdf", b"x"), "no text file"),
        (lambda: tmp_path / "nowhere", "no such file or folder"),
    ]:
        with pytest.raises(DataError, match=message):
            read_parallel(path())
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match="broken_zip"):
        read_parallel(tmp_path / "bad.zip")

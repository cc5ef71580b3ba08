"""Personal data, word lists and evaluation sets: what is found, and what only looks like it."""

from __future__ import annotations

import json
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seedbed.core.config import build
from seedbed.core.errors import ConfigError, DataError
from seedbed.curation import SPLITS, curate
from seedbed.curation.config import CurationConfig
from seedbed.curation.decontamination import DecontaminationConfig, Decontaminator
from seedbed.curation.pii import KINDS, is_card, mask_personal_data
from seedbed.curation.words import WordList

_KINDS = tuple(KINDS)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail jane.doe+x@mail.example.co.uk, please", "mail <email>, please"),
        ("(a_b@x.io)", "(<email>)"),
        ("call +49 30 901820 or (212) 555-0147 or 212-555-0147.", "call <phone> or <phone> or <phone>."),
        ("server 8.8.8.8 and 2001:4860:4860::8888", "server <ip> and <ip>"),
        ("card 4111 1111 1111 1111, amex 378282246310005", "card <card>, amex <card>"),
        ("id AKIAIOSFODNN7EXAMPLE end", "id <key> end"),
        ("ghp_" + "a1B2" * 9, "<key>"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----", "<key>"),
    ],
)
def test_what_is_masked(text: str, masked: str) -> None:
    assert mask_personal_data(text, _KINDS)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "@decorator and user@localhost and a @ b.com",
        "version 1.2.3.4.5, 127.0.0.1, 192.168.0.1, 10.1.2.3, 999.1.1.1, time 12:30:45 and std::vector::size",
        "4111 1111 1111 1112 and 0000 0000 0000 0000 and 1234567890123456",
        "2024-01-15, 1,234,567, 3.14159265358979, ISBN 978-3-16-148410-0, pages 123-456, 555-0147",
        "sk-learn is a library, eyJust a word, the PRIVATE KEY of the house",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert mask_personal_data(text, _KINDS) == (text, Counter())


def test_luhn() -> None:
    good = [number for number in range(4_000_000_000_000_000, 4_000_000_000_001_000) if is_card(str(number))]
    assert len(good) == 100  # one check digit in ten is right


@pytest.mark.parametrize(
    "piece", ["a", "a.", "1 ", "1.", ":", "a@", "+1", "sk-", "eyJa", "-----BEGIN PRIVATE KEY-----"]
)
def test_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece)) + "@"
    start = time.process_time()
    mask_personal_data(text, _KINDS)
    assert time.process_time() - start < 3


def test_words_and_phrases_are_counted_whole() -> None:
    words = WordList(["# a list", "darn", "holy cow", "", "ÉCLAIR"])
    assert len(words) == 3
    assert words.count(["Darn! DARN, darned", "holy, cow; wholly cow", "one éclair", "nothing"]) == [2, 1, 1, 0]


def _folder(tmp_path: Path, texts: list[str]) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text)
    return folder


def test_the_steps_are_accounted_for(tmp_path: Path) -> None:
    own = [f"Document number {n} speaks of its own matters and of nothing else, {n * 7} times." for n in range(60)]
    question = "Which of the seven rivers of the northern province carries the most water in the month of May?"
    texts = [*own, own[0] + " Write to me@example.org!", own[1] + " Darn it.", f"They asked: {question} Nobody knew."]
    docs = _folder(tmp_path, texts)
    (tmp_path / "list.txt").write_text("darn\n")
    (tmp_path / "set.jsonl").write_text(json.dumps({"question": question, "id": "q1"}) + "\n")
    options = {
        "banned_words": str(tmp_path / "list.txt"),
        "decontamination": {"sets": [str(tmp_path / "set.jsonl")]},
        "personal_data": {"kinds": ["email"]},
    }
    report = curate(docs, tmp_path / "out", **options)
    rejected = {row["id"]: row for row in pq.read_table(tmp_path / "out/rejected").to_pylist()}
    assert {id: row["rule"] for id, row in rejected.items()} == {"061.txt": "banned_words", "062.txt": "contaminated"}
    assert rejected["062.txt"]["value"] == 1.0
    assert "set.jsonl#1" in rejected["062.txt"]["detail"]
    assert report.metrics["personal_data"] == {"email": 1}
    assert any("Write to <email>!" in text for name in SPLITS for text in report.corpus.texts(name))
    # A changed list is another corpus.
    (tmp_path / "list.txt").write_text("absent\n")
    assert curate(docs, tmp_path / "out", **options).kept == 62
    dropping = curate(docs, tmp_path / "drop", personal_data={"kinds": ["email"], "action": "drop"})
    assert {drop["rule"] for drop in dropping.metrics["drops"]} == {"personal_data"}
    with pytest.raises(ConfigError, match="unknown kind 'name'"):
        build(CurationConfig, {"personal_data": {"kinds": ["name"]}})
    with pytest.raises(DataError, match="cannot be read"):
        curate(docs, tmp_path / "none", banned_words=str(tmp_path / "no such list"))


def _edited(text: str, generator: random.Random) -> str:
    """One word in ten replaced."""
    words = text.split()
    for place in generator.sample(range(len(words)), max(1, len(words) // 10)):
        words[place] = "something"
    return " ".join(words)


def test_planted_items_are_found_and_real_text_is_not(shared_data: Callable[[str], Path]) -> None:
    rows = [json.loads(line) for line in shared_data("instructions/gsm8k-test.jsonl").read_text().splitlines()]
    items = [next(value for value in row.values() if isinstance(value, str)) for row in rows]
    found = Decontaminator(((str(n), item) for n, item in enumerate(items)), DecontaminationConfig())
    with zipfile.ZipFile(shared_data("text/abc.zip")) as archive:
        text = archive.read("abc/science.txt").decode("utf-8", "replace")
    hosts = [text[at : at + 3000] for at in range(0, 600_000, 3000)]
    assert sum(one is not None for one in found.find(hosts)) == 0
    generator = random.Random(0)
    changes: dict[str, Callable[[str], str]] = {
        "exact": lambda item: item,
        "re-cased": str.upper,
        "re-punctuated": lambda item: item.replace(",", " --").replace(".", " ;\n").replace("'", "’"),
        "edited": lambda item: _edited(item, generator),
    }
    for change, apply in changes.items():
        planted = [
            f"{host[:1500]} {apply(items[n])} {host[1500:]}"
            for n, host in enumerate(hosts)
            if len(items[n].split()) >= 8
        ]
        hit = [one for one in found.find(planted) if one is not None]
        assert len(hit) >= (0.97 if change == "edited" else 1.0) * len(planted), change

"""Instruction and preference rows: made from documents, read from files, encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.core.errors import DataError
from seedbed.datasets.instructions import (
    InstructionConfig,
    hold_out,
    instruction_rows,
    parameters,
    read_instructions,
)
from seedbed.datasets.preferences import Candidate, rank_candidates, read_preferences
from seedbed.datasets.sentences import complete, split_sentences

_DUMPS = {
    "id": "1",
    "title": "json.dumps",
    "text": "json.dumps(obj, *, skipkeys=False, cls=None, **kw)\n\nSerialize ``obj`` to a JSON formatted "
    ":class:`str`.  More\ntext, e.g. this.\n\n>>> json.dumps(1)",
}


def _pairs(documents: list[dict[str, Any]], **config: int) -> list[tuple[str, str]]:
    rows = instruction_rows(documents, InstructionConfig(**config))
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows]


def test_code_is_asked_what_it_does_and_takes() -> None:
    (does, told), (takes, listed) = _pairs([_DUMPS])
    assert "`json.dumps`" in does
    assert told == "`json.dumps` serializes obj to a JSON formatted str."
    assert "`json.dumps`" in takes
    assert listed == "`json.dumps` takes obj, skipkeys, cls and **kw."


@pytest.mark.parametrize(
    ("documentation", "answer"),
    [
        ("A list of things", "`m.C` is a list of things."),
        ("Returns the sum.", "`m.C` returns the sum."),
        ("Tries it again.", "`m.C` tries it again."),
        ("Set of all names.", "`m.C`: Set of all names."),
        ("Mixin for servers.", "`m.C`: Mixin for servers."),
    ],
)
def test_first_sentences_become_answers(documentation: str, answer: str) -> None:
    assert [told for _, told in _pairs([{"id": "1", "title": "m.C", "text": f"m.C\n\n{documentation}"}])] == [answer]


def test_prose_is_asked_about_title_headings_and_words() -> None:
    text = "The harbour lies in the north.\n\n# Boats\n\nFishermen repair their wooden boats here. See https://x.org.\n"
    document = {"id": "1", "title": "guides/harbour_tour.md", "text": text}
    pairs = _pairs([document], rows_per_document=9)
    answers = [answer for _, answer in pairs]
    assert "Harbour tour: The harbour lies in the north." in answers
    assert "Boats: Fishermen repair their wooden boats here." in answers
    assert any("`fishermen`" in question for question, _ in pairs)
    assert not any("https" in answer for answer in answers)


def test_rows_depend_on_the_document_and_the_seed_alone() -> None:
    other = {"id": "2", "title": "m.f", "text": "m.f(a)\n\nReturn a."}
    alone, together = instruction_rows([_DUMPS]), instruction_rows([other, _DUMPS])
    assert [row for row in together if row["source"] == "1"] == alone
    limited = instruction_rows([_DUMPS, other], InstructionConfig(max_rows=2))
    assert [row["source"] for row in limited] == ["1", "2"]  # the first row of each before the second of any


def test_sentences() -> None:
    assert split_sentences("Use it, e.g. twice. Then stop.  Done") == ["Use it, e.g. twice.", "Then stop.", "Done"]
    assert complete("Return the sum", 2, 9) == "Return the sum."
    for unclean in ("Return (the sum.", "x = 3 is set.", "lower case opens.", "See >>> this", "One two three four"):
        assert complete(unclean, 2, 3) is None


@given(st.text(max_size=80))
def test_any_signature_or_text_is_survived(text: str) -> None:
    parameters(text)
    parameters("(" + text)
    for row in instruction_rows([{"id": "1", "title": text[:20], "text": text}]):
        assert row["messages"][1]["content"].strip()


def _write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_users_file_is_read_and_bad_rows_are_named(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]}
    path = _write(
        tmp_path / "rows.jsonl", good, {"instruction": "Add.", "input": "1 and 2", "output": "3"}, "{broken", "",
        {"instruction": "Say", "output": ""}, {"text": "x"}, [1], {"messages": [{"role": "robot", "content": "x"}]},
    )  # fmt: skip
    found = read_instructions(path)
    assert found.rows[0]["messages"] == good["messages"]
    assert found.rows[1]["messages"][0]["content"] == "Add.\n\n1 and 2"
    assert [(one.line, one.reason) for one in found.rejected] == [
        (3, "not JSON"),
        (5, "no answer"),
        (6, "none of 'messages', 'conversations', 'instruction', 'question', 'prompt'"),
        (7, "not a JSON object"),
        (8, "message 1 has the role 'robot' (system, user or assistant)"),
    ]
    with pytest.raises(DataError, match=r"bad.jsonl:1: no usable row; not JSON"):
        read_instructions(_write(tmp_path / "bad.jsonl", "{"))
    with pytest.raises(DataError, match=r"deep.json:1: no usable row; not JSON"):
        read_instructions(_write(tmp_path / "deep.json", "[" * 200_000))


def test_other_ways_to_write_a_question_and_its_answer(tmp_path: Path) -> None:
    rows = (
        {"question": "Why?", "answer": "So."}, {"prompt": "Why?", "completion": "So.", "source": "here"},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    )  # fmt: skip
    found = read_instructions(_write(tmp_path / "rows.jsonl", *rows)).rows
    assert {json.dumps(one["messages"]) for one in found} == {
        json.dumps([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}])
    }
    assert [one["source"] for one in found] == ["line 1", "here", "line 3"]


def test_rows_of_one_source_are_held_out_together() -> None:
    rows = [{"messages": [], "source": f"document {number // 3}", "n": number} for number in range(300)]
    train, held_out = hold_out(rows, 0.1, seed=0)
    assert sorted(one["n"] for one in train + held_out) == list(range(300))
    assert not {one["source"] for one in train} & {one["source"] for one in held_out}
    assert len(held_out) == 30
    assert [one["n"] for one in held_out] == sorted(one["n"] for one in held_out)
    assert max(one["n"] for one in held_out) > 200  # from all over the file
    assert hold_out(rows, 0.1, seed=1) != (train, held_out)
    of_one = [{"source": "alpaca", "n": number} for number in range(20)]
    assert [len(side) for side in hold_out(of_one, 0.1, seed=0)] == [18, 2]
    assert [len(side) for side in hold_out(rows[:2], 0.9, seed=0)] == [1, 1]
    with pytest.raises(DataError, match="too few rows"):
        hold_out(rows[:1], 0.1, seed=0)


def test_preferences_are_checked(tmp_path: Path) -> None:
    row = {"prompt": "Q", "chosen": "a", "rejected": "b"}
    path = _write(
        tmp_path / "p.jsonl", row, row | {"chosen": ""}, row | {"rejected": "a"}, row | {"prompt": 3},
        row | {"rejected": "a", "rejected_ended": False},
    )  # fmt: skip
    found = read_preferences(path)
    assert [one["chosen"] for one in found.rows] == ["a", "a"]
    assert [(one.line, one.reason) for one in found.rejected] == [
        (2, "empty chosen"),
        (3, "chosen equals rejected"),
        (4, "'prompt' is missing or not text"),
    ]


def test_real_files_are_read(shared_data: Any) -> None:
    assert len(read_instructions(shared_data("instructions/alpaca_en_demo.json")).rows) > 900
    sums = read_instructions(shared_data("instructions/gsm8k-test.jsonl"))
    assert (len(sums.rows), len(sums.rejected)) == (1319, 0)
    assert sums.rows[0]["messages"][1]["content"].endswith("#### 18")
    assert sums.rows[6]["source"] == "line 7"


def test_ranking_prefers_the_better_and_draws_no_pair_twice() -> None:
    candidates = [
        Candidate("a", True, 0.9),
        Candidate("b", True, 0.5),
        Candidate("", True, 0.95),
        Candidate("c", False, 0.48),
    ]
    rows = rank_candidates("Q", candidates, np.random.default_rng(0), pairs=10, minimum_gap=0.05)
    assert sorted((row["chosen"], row["rejected"]) for row in rows) == [("a", "b"), ("a", "c")]
    assert [row["rejected_ended"] for row in rows if row["rejected"] == "c"] == [False]

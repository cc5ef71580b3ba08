"""The gold reward: what each part catches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.alignment.rewards import PARTS, gold_parts, gold_reward

_PROMPT = "What does `json.dumps` do?"
_GOOD = "`json.dumps` serializes an object to a string of JSON."


def test_a_good_answer_has_it_all() -> None:
    assert gold_parts(_PROMPT, _GOOD, ended=True) == dict.fromkeys(PARTS, 1.0)


@pytest.mark.parametrize(
    ("answer", "ended", "weak"),
    [
        (_GOOD, False, {"ends", "sentence"}),
        (_GOOD.rstrip("."), True, {"sentence"}),
        ("`json.dumps` serializes (an object to a string.", True, {"sentence"}),
        ("This serializes an object to a string.", True, {"names"}),
        ("The dumps of json are strings of text.", True, {"names"}),
        ("`json.dumps`.", True, {"length"}),
        ("`json.dumps` " + " ".join(f"word{n}" for n in range(60)) + ".", True, {"length"}),
        ("`json.dumps` writes the list of the list of the list.", True, {"fresh"}),
        ("`json.dumps` `json.dumps` `json.dumps` `json.dumps` `json.dumps`.", True, {"fresh"}),
    ],
)
def test_what_is_wrong_shows_in_its_part(answer: str, ended: bool, weak: set[str]) -> None:
    parts = gold_parts(_PROMPT, answer, ended)
    assert {name for name, value in parts.items() if value < 1} == weak
    assert gold_reward(parts) < 0.97


def test_half_a_name_is_worth_less_than_the_whole() -> None:
    assert gold_parts(_PROMPT, "It dumps the object.", True)["names"] == pytest.approx(0.9 * 5 / 10)
    assert gold_parts(_PROMPT, "`json.dumpster` is not it.", True)["names"] == pytest.approx(0.9)
    assert gold_parts(_PROMPT, "`json.loads` loads.", True)["names"] == pytest.approx(0.9 * 5 / 10)


def test_a_question_without_a_marked_subject_asks_for_its_content_words() -> None:
    parts = gold_parts("Why does the kettle whistle?", "The kettle is hot.", True)
    assert parts["names"] == 0.5


@given(st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_parts_are_between_0_and_1(prompt: str, answer: str, ended: bool) -> None:
    parts = gold_parts(prompt, answer, ended)
    assert tuple(parts) == PARTS
    assert all(0 <= value <= 1 for value in parts.values())
    assert 0 <= gold_reward(parts) <= 1
    assert answer.strip() or gold_reward(parts) == 0

"""Rewards that a program checks, and how they are named."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.alignment.rollouts import Answer
from seedbed.alignment.verifiable import last_number, verifiable
from seedbed.core.errors import ConfigError, DataError


def _answers(*texts: str) -> list[Answer]:
    return [Answer("2 + 2?", np.ones(1), np.ones(1), text, True, np.zeros(1)) for text in texts]


def test_arithmetic_reads_the_last_number() -> None:
    assert last_number("it is 1,234.50 or -7") == -7
    assert last_number("#### 1,234") == 1234
    assert last_number("none") is None
    reward = verifiable("arithmetic", {"2 + 2?": "so 2 + 2 = <<2+2=4>>4\n#### 4"})
    assert reward(_answers("3, no: 4.0", "4 or 5", "four")).tolist() == [1, 0, 0]
    with pytest.raises(DataError, match="no number"):
        verifiable("arithmetic", {"2 + 2?": None})


def test_json_format_and_length() -> None:
    assert verifiable("json", {})(_answers('{"a": 1}', "```json\n[1]\n```", "1", "{", "[" * 9999)).tolist() == [
        1,
        1,
        0,
        0,
        0,
    ]
    assert verifiable(r"format:\d+ apples?", {})(_answers("3 apples", "no", " 1 apple ")).tolist() == [1, 0, 1]
    assert verifiable("length:4", {})(_answers("a b c d", "a b", "", "a " * 9)).tolist() == [1, 0.5, 0, 0]
    weighed = verifiable("json + 0.5*length:2", {})
    np.testing.assert_allclose(weighed(_answers("[1, 2]", "a b")), [1.5, 0.5])
    assert verifiable(r"format:(a+)+b", {})(_answers("a" * 60))[0] == 0  # within its time


@pytest.mark.parametrize("name", ["gold", "length", "length:x", "length:0", "format:(", "1..2*json", "json:x", ""])
def test_unknown_rewards_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        verifiable(name, {})

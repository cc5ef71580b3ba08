"""Rewards that a program can check: arithmetic, what an answer must look like, JSON, length.

Named on a command line they are `arithmetic`, `json`, `format:EXPRESSION` and `length:WORDS`, weighed and added like
`arithmetic+0.2*length:40`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import regex

from ..core.errors import ConfigError, DataError
from ..datasets.instructions import Turns
from .rollouts import Answer, Reward

_NUMBER = regex.compile(r"-?\d[\d,]*(?:\.\d+)?")
_FENCE = regex.compile(r"```(?:json)?\s*(.*?)```", regex.DOTALL)
_PLUS = regex.compile(r"\+(?=\s*(?:[\d.]+\s*\*\s*)?(?:arithmetic|json|format:|length:))")  # others are of an expression
_SECONDS = 1.0  # that an expression may take on one answer

Check = Callable[[Answer], float]


class Arithmetic:
    """1 if the last number of an answer is the last number of its prompt's reference, else 0."""

    def __init__(self, references: Mapping[str | Turns, str | None]) -> None:
        self._wanted = {prompt: last_number(reference or "") for prompt, reference in references.items()}
        missing = next((prompt for prompt, wanted in self._wanted.items() if wanted is None), None)
        if missing is not None:
            raise DataError(
                f"the prompt {str(missing)[:60]!r} has no number to check answers against",
                hint='Rows need "answer", whose last number is the right one.',
            )

    def __call__(self, answer: Answer) -> float:
        found, wanted = last_number(answer.text), self._wanted.get(answer.prompt)
        return float(found is not None and wanted is not None and math.isclose(found, wanted, rel_tol=1e-9))


def last_number(text: str) -> float | None:
    """The last number written in a text, thousands separated by commas or not; None if there is none."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def valid_json(answer: Answer) -> float:
    """1 if the answer, or what it fences as code, is a JSON object or list; else 0."""
    fenced = _FENCE.search(answer.text)
    try:
        value = json.loads(fenced.group(1) if fenced else answer.text)
    except (ValueError, RecursionError):
        return 0.0
    return float(isinstance(value, dict | list))


def follows(expression: str) -> Check:
    """1 if the whole answer matches a regular expression, else 0. An expression that takes too long does not match."""
    try:
        pattern = regex.compile(expression, regex.DOTALL)
    except regex.error as error:
        raise ConfigError(f"'{expression}' is not a regular expression ({error})", where="reward") from None

    def check(answer: Answer) -> float:
        try:
            return float(pattern.fullmatch(answer.text.strip(), timeout=_SECONDS) is not None)
        except TimeoutError:
            return 0.0

    return check


def as_long_as(words: int) -> Check:
    """1 for an answer of so many words, falling linearly to 0 at none and at twice as many."""
    if words < 1:
        raise ConfigError("a length is at least one word", where="reward")
    return lambda answer: max(0.0, 1 - abs(len(answer.text.split()) - words) / words)


def verifiable(specification: str, references: Mapping[str | Turns, str | None]) -> Reward:
    """The weighted sum of named rewards, like "arithmetic+0.2*length:40".

    Args:
        references: the right answer to each prompt, where there is one; `arithmetic` needs them.

    Raises:
        ConfigError: a name or a weight that is not known.
        DataError: a prompt without the reference that is needed.
    """
    terms = [_term(term, references) for term in _PLUS.split(specification)]

    def reward(answers: Sequence[Answer]) -> np.ndarray:
        return np.array([sum(weight * check(answer) for weight, check in terms) for answer in answers], np.float32)

    reward.__name__ = specification
    return reward


def _term(term: str, references: Mapping[str | Turns, str | None]) -> tuple[float, Check]:
    found = regex.fullmatch(r"\s*(?:([\d.]+)\s*\*)?\s*([a-z]+)(?::(.*))?\s*", term, regex.DOTALL)
    weight, name, argument = found.groups() if found else (None, None, None)
    try:
        weight = 1.0 if weight is None else float(weight)
    except ValueError:
        raise ConfigError(f"'{weight}' is not a weight", where="reward") from None
    if name == "arithmetic" and argument is None:
        return weight, Arithmetic(references)
    if name == "json" and argument is None:
        return weight, valid_json
    if name == "format" and argument:
        return weight, follows(argument)
    if name == "length" and argument and argument.strip().isdecimal():
        return weight, as_long_as(int(argument))
    raise ConfigError(
        f"'{term}' is no reward", where="reward",
        hint="Name arithmetic, json, format:EXPRESSION or length:WORDS, or the folder of a reward model.",
    )  # fmt: skip

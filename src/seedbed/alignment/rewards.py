"""The gold reward: what a good answer is, as a program that anybody can read.

It plays the people in this road. Preferences are ranked by it and the reward model learns it from those; PPO never sees
it, so gold falling while the reward model's score rises is over-optimisation, in the open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher

from pydantic import Field, model_validator

from ..core.config import Config
from ..datasets.sentences import balanced

PARTS = ("ends", "sentence", "names", "length", "fresh")

_SUBJECT = re.compile(r"`([^`\n]+)`")
_PIECES = re.compile(r"\w+|[^\w\s]")
_COMMON = frozenset(
    """about after also answer been before could describe does explain from give have here how into know list made make
    many more most much name only over please should some something such tell than that their them then there these
    they this those using very want was were what when where which while will with would write your""".split()
)  # fmt: skip


class GoldConfig(Config):
    """What length an answer should have, in words."""

    min_words: int = Field(default=5, ge=1)
    max_words: int = Field(default=12, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> GoldConfig:
        if self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self


def gold_parts(prompt: str, answer: str, ended: bool, config: GoldConfig | None = None) -> dict[str, float]:
    """The parts of the gold reward, each in [0, 1], under the names in `PARTS`.

    - ends: the answer ended by itself (EOS) instead of being cut off.
    - sentence: opens like a sentence, closes with a full stop, brackets and quotes close; a third each. Nothing of it
      if the answer was cut off, which therefore costs two parts.
    - names: 1 if the back-ticked subject of the prompt is in the answer, otherwise nine tenths of the share of it that
      the answer spells in one piece. A prompt without back-ticks: the share of its content words.
    - length: 1 from `min_words` to `max_words`, falling linearly to 0 at no words and at one and a half times
      the maximum.
    - fresh: 1 minus four times the share of words that repeat the word before or close a triple seen before.
    """
    config, answer = config or GoldConfig(), answer.strip()
    if not answer:
        return dict.fromkeys(PARTS, 0.0)
    return {
        "ends": float(ended),
        "sentence": _sentence(answer) if ended else 0.0,
        "names": _names(prompt, answer),
        "length": _length(len(answer.split()), config),
        "fresh": _fresh(answer),
    }


def gold_reward(parts: Mapping[str, float]) -> float:
    """The mean of the parts, in [0, 1]."""
    return sum(parts[name] for name in PARTS) / len(PARTS)


def _sentence(answer: str) -> float:
    opens = bool(re.match(r"[\"'“‘(]?[A-Z0-9]|`\S", answer))
    closes = bool(re.search(r"[\w)\]`\"'”’%*][.!?][)\"'”’]?$", answer))
    return (opens + closes + (balanced(answer) and "\n" not in answer)) / 3


def _names(prompt: str, answer: str) -> float:
    said, subjects = answer.lower(), [found.lower() for found in _SUBJECT.findall(prompt)]
    if subjects:
        return sum(_named(subject, said) for subject in subjects) / len(subjects)
    words = {word for word in re.findall(r"[^\W\d_]{4,}", prompt.lower()) if word not in _COMMON}
    spoken = set(re.findall(r"[^\W\d_]+", said))
    return len(words & spoken) / len(words) if words else 1.0


def _named(subject: str, said: str) -> float:
    if re.search(rf"(?<![\w.]){re.escape(subject)}(?!\w|\.\w)", said):
        return 1.0
    longest = SequenceMatcher(None, subject, said, autojunk=False).find_longest_match()
    return 0.9 * longest.size / len(subject)


def _length(words: int, config: GoldConfig) -> float:
    if words < config.min_words:
        return words / config.min_words
    return min(1.0, max(0.0, 3 - 2 * words / config.max_words))


def _fresh(answer: str) -> float:
    pieces = _PIECES.findall(answer.lower())
    seen: set[tuple[str, ...]] = set()
    repeats = len(re.findall(r"(\w)\1{3,}", answer))
    for index, piece in enumerate(pieces):
        triple = tuple(pieces[index - 2 : index + 1])
        repeats += triple in seen or (index > 0 and piece == pieces[index - 1] and piece.isalnum())
        if len(triple) == 3:
            seen.add(triple)
    return max(0.0, 1 - 4 * repeats / max(len(pieces), 1))

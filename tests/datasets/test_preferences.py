"""Preference rows in the shapes that people have them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.randomness import numpy_generator
from seedbed.datasets.preferences import (
    Candidate,
    PreferenceBatches,
    encode_preferences,
    parse_labelled,
    parse_preference,
    prompt_of,
    rank_candidates,
    read_labelled,
    read_preferences,
)
from seedbed.tokenizers import train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS

_TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
_ANSWERS = {"chosen": "So.", "rejected": "No."}


@pytest.mark.parametrize("row", [
    {"prompt": "Why?", **_ANSWERS},
    {"prompt": [{"role": "user", "content": "Why?"}], "chosen": [{"role": "assistant", "content": "So."}],
     "rejected": [{"role": "assistant", "content": "No."}]},
    {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "So."},
     "rejected": {"from": "gpt", "value": "No."}},
    {"chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
     "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}]},
])  # fmt: skip
def test_all_shapes_say_the_same(row: dict[str, Any]) -> None:
    assert parse_preference(row) == {"prompt": "Why?", **_ANSWERS, "chosen_ended": True, "rejected_ended": True}


def test_margins_go_with_their_pairs() -> None:
    tokenizer = train_bpe(["Why? So. No."], vocab_size=300, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHATML)
    rows = [parse_preference({"prompt": "Why?", **_ANSWERS, **more}) for more in ({"margin": 2}, {}, {"margin": 0.5})]
    pairs = encode_preferences(rows, tokenizer, 64, 3).select(np.array([2, 0, 1]))
    (batch,) = PreferenceBatches(pairs, 3, 1).once()
    assert batch.margins_B.tolist() == [0.5, 2.0, 0.0]
    assert torch.cat([part.margins_B for part in batch.split(2)]).tolist() == [0.5, 2.0, 0.0]


def test_several_turns_are_kept() -> None:
    parsed = parse_preference({"prompt": _TURNS, **_ANSWERS})
    assert prompt_of(parsed) == (("system", "Be brief."), ("user", "Why?"))
    labelled = parse_labelled({"messages": [*_TURNS, {"role": "assistant", "content": "So."}], "label": False})
    assert labelled == {"prompt": _TURNS, "completion": "So.", "label": False}


@pytest.mark.parametrize(("row", "message"), [
    ({"prompt": "Why?", "chosen": "", "rejected": "No."}, "empty chosen"),
    ({"prompt": "Why?", "chosen": "So.", "rejected": "So."}, "chosen equals rejected"),
    ({"prompt": " ", **_ANSWERS}, "empty prompt"),
    ({"prompt": [{"role": "assistant", "content": "Hm."}], **_ANSWERS}, "does not end with the user"),
    ({"prompt": [{"role": "judge", "content": "Hm."}], **_ANSWERS}, "role 'judge'"),
    ({"prompt": "Why?", "chosen": 3, "rejected": "No."}, "'chosen' is missing or not text"),
    ({"prompt": "Why?", **_ANSWERS, "margin": "much"}, "'margin' is not a finite number"),
    ({"prompt": "Why?", **_ANSWERS, "margin": float("nan")}, "'margin' is not a finite number"),
    ({"chosen": [_TURNS[0], _TURNS[1]], "rejected": [_TURNS[1], _TURNS[1]]}, "different prompts"),
])  # fmt: skip
def test_bad_rows_say_what_is_wrong(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_preference(row)


def test_real_files_are_read(shared_data: Callable[[str], Path]) -> None:
    pairs = read_preferences(shared_data("preferences/dpo_en_demo.json"))
    labelled = read_labelled(shared_data("preferences/kto_en_demo.json"))
    for rows in (pairs, labelled):
        assert len(rows.rows) + len(rows.rejected) == 300
        assert len(rows.rejected) < 15, rows.reasons
    assert any(isinstance(row["prompt"], list) for row in pairs.rows)


def test_wrong_labels_come_as_often_as_was_asked() -> None:
    candidates = [Candidate("good answer", True, 1.0), Candidate("bad answer", True, 0.0)]
    generator = numpy_generator(0, "noise")
    rows = [rank_candidates("p", candidates, generator, pairs=1, label_noise=0.2)[0] for _ in range(2000)]
    wrong = sum(row["chosen_score"] < row["rejected_score"] for row in rows) / len(rows)
    assert abs(wrong - 0.2) < 0.03
    plain = rank_candidates("p", candidates, numpy_generator(0, "noise"), pairs=1)
    assert plain[0]["chosen"] == "good answer"

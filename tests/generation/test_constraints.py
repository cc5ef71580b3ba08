"""Constrained answers: whatever the model would say, what it says is a value of the schema or a match."""

from __future__ import annotations

import json
import re
import sys

import pytest

from seedbed.core.errors import ConfigError, DataError
from seedbed.generation import Engine, Lookup, Sampling
from seedbed.models import Decoder
from seedbed.tokenizers import Tokenizer, train_bpe, train_unigram, train_wordpiece

from .conftest import sharp

TEXTS = ['{"name": "Ada", "age": 36}', "the year 1843, and 12 more", '[1, 2.5, true, null, "x"]'] * 20
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["poet", "engine"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
pytest.importorskip("llguidance")


@pytest.fixture(scope="module", params=["bpe", "unigram", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bpe":
        return train_bpe(TEXTS, vocab_size=300, special_tokens=("<|endoftext|>",), threads=1)
    if request.param == "unigram":
        return train_unigram(TEXTS, vocab_size=80)
    return train_wordpiece(TEXTS, vocab_size=90, lowercase=False)


def test_answers_are_what_was_asked_for(tokenizer: Tokenizer) -> None:
    model = sharp(vocab_size=tokenizer.vocab_size + 3, context_length=256)
    end = next(iter(tokenizer.special_tokens.values()))
    engine = Engine(model, tokenizer, eos_token_ids=(end,), draft=Lookup(shortest=1))
    wishes = [
        Sampling(temperature=3, max_new_tokens=200, seed=seed, regex=r"1[0-9]{3}(, [0-9]{1,2})?") for seed in range(4)
    ]
    wishes.append(Sampling(temperature=0, max_new_tokens=9))
    results = engine.generate([TEXTS[1]] * len(wishes), wishes)
    plain = Engine(model, tokenizer, eos_token_ids=(end,)).generate([TEXTS[1]], [wishes[-1]])
    assert results[-1].ids.tolist() == plain[0].ids.tolist()
    for result in results[:-1]:
        assert re.fullmatch(r"1[0-9]{3}(, [0-9]{1,2})?", result.text)
        assert result.finish_reason == "stop"


def test_json_follows_its_schema() -> None:
    tokenizer = train_bpe(TEXTS, vocab_size=300, special_tokens=("<|endoftext|>",), threads=1)
    model = sharp(vocab_size=300, context_length=512)
    engine = Engine(model, tokenizer)
    wishes = [
        Sampling(temperature=2, max_new_tokens=400, seed=seed, json_schema=SCHEMA, min_p=0.01) for seed in range(4)
    ]
    for result in engine.generate(["Ada"] * 4, wishes):
        value = json.loads(result.text)
        assert set(value) == set(SCHEMA["required"])  # type: ignore[arg-type]
        assert len(value["name"]) <= 8
        assert 0 <= value["age"] <= 150
        assert value["kind"] in ("poet", "engine")
        assert result.finish_reason == "stop"


def test_what_cannot_be_followed_is_named(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_bpe(TEXTS, vocab_size=300, special_tokens=("<|endoftext|>",), threads=1)
    model = sharp(vocab_size=300)
    engine = Engine(model, tokenizer)
    for sampling, key in ((Sampling(regex="a("), "regex"), (Sampling(json_schema={"type": "x"}), "json_schema")):
        with pytest.raises(ConfigError, match=f"{key}: it cannot be followed"):
            engine.generate(["a"], [sampling])
    letters = train_unigram(TEXTS, vocab_size=80)
    mute = Engine(sharp(vocab_size=80), letters, eos_token_ids=(0,))
    with pytest.raises(DataError, match="prompt 0: the answer cannot go on"):
        mute.generate(["a"], [Sampling(regex="QQ")])
    with pytest.raises(ConfigError, match="token that ends it"):
        Engine(model, tokenizer, eos_token_ids=()).generate(["a"], [Sampling(regex="a")])
    with pytest.raises(ConfigError, match="exclude each other"):
        Sampling().replace(regex="a", json_schema={})
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"needs llguidance.*seedbed\[grammar\]"):
        Engine(model, tokenizer).generate(["a"], [Sampling(regex="a")])

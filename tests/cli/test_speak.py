"""generate and chat on a model in a directory: streams, history, constraints, and what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from seedbed.cli.app import app
from seedbed.core.config import build
from seedbed.generation import Sampling
from seedbed.generation.voice import Voice
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    tokenizer = train_bpe(["a person asks and a model answers"] * 9, vocab_size=270, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(chat_template=CHATML, eos_token="<|im_end|>")
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 32, "layers": 2, "heads": 4, "context_length": 160}
    path = tmp_path_factory.mktemp("model")
    save_model(Decoder(build(ModelConfig, shape)), path, tokenizer)
    return path


def call(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=text)


def test_generate_says_what_the_voice_says(directory: Path, tmp_path: Path) -> None:
    options = ("--model", directory, "--max-new-tokens", 20, "--temperature", 1, "--top-p", 1)
    expected = "".join(Voice.load(directory).ask("who?", Sampling(max_new_tokens=20)))
    for more in ((), ("--lookup",), ("--cache", "sinks")):
        result = call("generate", "who?", *options, *more)
        assert result.exit_code == 0, result.output
        assert result.output == expected + "\n"
    timed = call("generate", "who?", *options, "--stats").output
    assert re.search(r"\d+ \+ 20 tokens, first after \d+ ms, then \d+ a second", timed)
    assert re.fullmatch(r"[0-9]{3}\n", call("generate", "who?", *options, "--regex", "[0-9]{3}").output)
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["yes", "no"]}')
    assert json.loads(call("generate", "who?", *options, "--json-schema", schema).output) in ("yes", "no")


def test_a_chat_has_a_history(directory: Path, tmp_path: Path) -> None:
    history = tmp_path / "chat.json"
    options = ("--model", directory, "--max-new-tokens", 8, "--system", "be kind", "--history", history)
    result = call("chat", *options, text="one\ntwo\n/undo\nthree\n\n")
    assert result.exit_code == 0, result.output
    assert result.output.count("first after") == 3
    kept = json.loads(history.read_text())
    assert [one["role"] for one in kept] == ["user", "assistant"] * 2
    assert [one["content"] for one in kept[::2]] == ["one", "three"]
    asked = [{"role": "system", "content": "be kind"}, *kept[:3]]
    said = "".join(Voice.load(directory).ask(asked, Sampling(temperature=0.3, top_p=0.95, max_new_tokens=8)))
    assert said == kept[3]["content"]
    call("chat", *options, text="four\n")
    assert [one["content"] for one in json.loads(history.read_text())][::2] == ["one", "three", "four"]
    call("chat", *options, text="/reset\nfive\n")
    assert [one["content"] for one in json.loads(history.read_text())][::2] == ["five"]


def test_long_chats_forget_their_oldest_turns(directory: Path) -> None:
    voice = Voice.load(directory)
    turns = [
        {"role": role, "content": f"{role} {number} " * 4} for number in range(5) for role in ("user", "assistant")
    ]
    messages = [{"role": "system", "content": "be kind"}, *turns, {"role": "user", "content": "and now?"}]
    reply = voice.ask(messages, Sampling(max_new_tokens=10))
    list(reply)
    figures = reply.figures()
    assert figures.forgotten > 0
    assert figures.forgotten % 2 == 0
    assert figures.dropped == 0
    text = voice.tokenizer.decode(reply.request.prompt.ids)
    assert text.startswith("<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("and now?<|im_end|>\n<|im_start|>assistant\n")
    assert f"{figures.forgotten} earlier messages forgotten" in str(figures)
    # One question alone that is too long loses its beginning.
    reply = voice.ask("x y z " * 100, Sampling(max_new_tokens=10))
    list(reply)
    assert reply.figures().dropped > 0


def test_what_cannot_be_said(directory: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    for arguments, message in (
        (("generate", "x", "--model", tmp_path), "config.json"),
        (("generate", "x", "--model", directory, "--run", tmp_path), "exclude each other"),
        (("generate", "x", "--model", directory, "--cache", "ring"), "'ring' is not a cache"),
        (("generate", "x", "--model", directory, "--json-schema", tmp_path / "none.json"), "no such file"),
        (("chat", "--model", directory, "--history", bad), "no list of messages"),
    ):
        result = call(*arguments)
        assert result.exit_code == 1
        assert message in result.output.replace("\n", " ")
        assert "Traceback" not in result.output

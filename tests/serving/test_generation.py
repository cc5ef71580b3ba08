"""Chat and completions through OpenAI's own client, beside the engine's own answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from seedbed.generation import Sampling
from seedbed.run import Run

from .conftest import Running

_QUESTIONS = ("What is `json.dumps`?", "How do I read a CSV file?", "What does pathlib do?", "naïve 数据 🙂?")


def _ask(running: Running, question: str = _QUESTIONS[0], **wishes: Any) -> Any:
    wishes = {"temperature": 0, "max_tokens": 12, **wishes}
    return running.client().chat.completions.create(
        model="policy", messages=[{"role": "user", "content": question}], **wishes
    )


def _own(run: Run, question: str = _QUESTIONS[0], **sampling: Any) -> Any:
    """The engine's own answer."""
    voice = run.voice("policy")
    wishes = Sampling(**{"temperature": 0, "max_new_tokens": 12, **sampling})
    return voice.engine.generate([voice.encode(question)[0]], [wishes])[0]


def test_answers_of_all_clients_together_are_those_of_the_run(running: Running, tiny_run: Run) -> None:
    expected = [tiny_run.generate(one, temperature=0, max_new_tokens=40) for one in _QUESTIONS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: _ask(running, one, max_tokens=40), _QUESTIONS * 4))
    assert [one.choices[0].message.content for one in found] == expected * 4
    assert all(one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens for one in found)


def test_a_stream_is_the_answer_in_pieces(running: Running, tiny_run: Run) -> None:
    chunks = list(_ask(running, stream=True, logprobs=True, top_logprobs=2, stream_options={"include_usage": True}))
    own = _own(tiny_run, top_logprobs=2)
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.delta.content or "" for choice in choices) == own.text
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + [own.finish_reason]
    assert chunks[-1].usage.completion_tokens == len(own.ids)
    told = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    count = len(own.ids) - (own.ids[-1] in tiny_run.voice("policy").engine.eos_token_ids)
    np.testing.assert_allclose([token.logprob for token in told], own.logprobs[:count], atol=1e-6)
    best = [[one.logprob for one in token.top_logprobs] for token in told]
    np.testing.assert_allclose(best, own.top_logprobs[:count], atol=1e-6)
    assert b"".join(bytes(token.bytes) for token in told).decode(errors="replace").startswith(own.text)


def test_events_end_as_the_protocol_says(running: Running) -> None:
    body = {"model": "base", "prompt": "The", "stream": True, "max_tokens": 3, "n": 2}
    answer = httpx.post(f"{running.url}/v1/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, empty = answer.text.split("\n\n")
    assert (last, empty) == ("data: [DONE]", "")
    assert {json.loads(event.removeprefix("data: "))["choices"][0]["index"] for event in events} == {0, 1}


def test_a_seed_gives_the_same_answers_and_n_gives_others(running: Running, tiny_run: Run) -> None:
    wishes = {"temperature": 1.2, "top_p": 0.9, "seed": 7}
    alone, three = _ask(running, **wishes), _ask(running, n=3, **wishes)
    texts = [choice.message.content for choice in three.choices]
    assert alone.choices[0].message.content == texts[0] == _own(tiny_run, **wishes).text
    assert len(set(texts)) == 3
    assert three.usage.prompt_tokens == alone.usage.prompt_tokens
    extra = {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.3}
    penalties = {"frequency_penalty": 0.5, "presence_penalty": 0.25}
    found = _ask(running, extra_body=extra, **penalties, **wishes).choices[0].message.content
    assert found == _own(tiny_run, **extra, **penalties, **wishes).text
    unseeded = [_ask(running, temperature=1).choices[0].message.content for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_stops_end_an_answer_and_are_left_out(running: Running, tiny_run: Run) -> None:
    text = _own(tiny_run).text
    stop = text[len(text) // 2 :][:3]
    for stream in (False, True):
        answer = _ask(running, stop=[stop, "never said"], stream=stream)
        if stream:
            found = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        else:
            found = answer.choices[0].message.content
            assert answer.choices[0].finish_reason == "stop"
        assert found == text[: text.index(stop)]


def test_answers_follow_a_schema(running: Running) -> None:
    schema = {
        "type": "object", "properties": {"yes": {"type": "boolean"}, "kind": {"enum": ["module", "class"]}},
        "required": ["yes", "kind"], "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = _ask(running, response_format=form, max_tokens=60, temperature=1, seed=1).choices[0].message.content
    assert json.loads(answer).keys() == {"yes", "kind"}
    assert _ask(running, response_format={"type": "json_object"}, max_tokens=5).choices[0].message.content[0] == "{"


def test_completions_of_texts_and_tokens(running: Running, tiny_run: Run) -> None:
    voice, client = tiny_run.voice("base"), running.client()
    ids = voice.tokenizer.encode("The csv").tolist()
    asked = [voice.tokenizer.encode("A").tolist(), ids]
    own = voice.engine.generate([np.array(one) for one in asked], Sampling(temperature=0, max_new_tokens=6))
    found = client.completions.create(model="base", prompt=asked, temperature=0, max_tokens=6, logprobs=1)
    assert [choice.text for choice in found.choices] == [one.text for one in own]
    assert found.choices[1].logprobs.token_logprobs == pytest.approx(own[1].logprobs.tolist(), abs=1e-6)
    echoed = client.completions.create(model="base", prompt="The csv", temperature=0, max_tokens=6, echo=True)
    assert echoed.choices[0].text == "The csv" + own[1].text


def test_long_chats_are_refused_or_forgotten(running: Running) -> None:
    long = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "x"}] * 4
    asked = {"model": "policy", "messages": [*long, {"role": "user", "content": "csv?"}], "max_tokens": 4}
    with pytest.raises(openai.BadRequestError, match="more than the model's 128") as refused:
        running.client().chat.completions.create(**asked)
    assert refused.value.code == "context_length_exceeded"
    answer = running.client().chat.completions.create(**asked, extra_body={"truncation": "auto"})
    assert answer.usage.total_tokens <= 128


_CHAT = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "gpt-4"}, 404, "model"),
        ({"model": "base"}, 400, None),
        ({"temprature": 1}, 400, "temprature"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": 5000}, 400, "max_tokens"),
        ({"n": 65}, 400, "n"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "\ufdd0"}]}, 400, None),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"top_logprobs": 2}, 400, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no"}}}}, 400,
         "json_schema"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(running: Running, change: dict[str, Any], status: int, param: str) -> None:
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=_CHAT | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert set(error) == {"message", "type", "param", "code"}
    assert "/" not in error["message"].replace("and/or", "")


def test_models_are_listed(running: Running, tiny_run: Run) -> None:
    client = running.client()
    assert [one.id for one in client.models.list()] == ["base", "sft", "policy", "encoder"]
    assert client.models.retrieve("policy").context_length == tiny_run.voice("policy").engine.max_length
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("../policy")

"""Chat and completions through OpenAI's own client."""

from __future__ import annotations

from seedbed.run import Run

from .conftest import Running

_QUESTION = "What is `json.dumps`?"


def test_answers_are_those_of_the_run(running: Running, tiny_run: Run) -> None:
    expected = tiny_run.generate(_QUESTION, temperature=0, max_new_tokens=12)
    for stream in (False, True):
        answer = running.client().chat.completions.create(
            model="policy", messages=[{"role": "user", "content": _QUESTION}], temperature=0, max_tokens=12,
            stream=stream,
        )  # fmt: skip
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        else:
            text = answer.choices[0].message.content
        assert text == expected

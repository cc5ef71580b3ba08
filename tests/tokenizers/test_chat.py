"""Chats: rendered and masked as `transformers` does; messages cannot write control tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError
from seedbed.tokenizers import CHATML, CHATML_TOKENS, Tokenizer, audit, chat, train_bpe

_BUSY = """{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}
{{ bos_token }}{{ message.content | trim }}
        {%- continue %}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content | trim }}{{ eos_token }}{% endgeneration %}
    {%- else %}{{ {'say': message.content, 'n': [1, none]} | tojson }}{% endif %}
{% endfor %}
{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{% if not messages %}{{ raise_exception('no messages <here>') }}{% endif %}
{{ strftime_now('%%') }}"""

_CHAT = [
    {"role": "system", "content": "  Be brief.\n"},
    {"role": "user", "content": "Was heißt 你好?  <b>'s"},
    {"role": "assistant", "content": " Hallo! 👋\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "x"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    text = "user assistant system hello there, what is this? " * 4
    return train_bpe([text], 300, "llama3", CHATML_TOKENS, pad_token="<|pad|>", chat_template=CHATML)


@pytest.mark.parametrize("template", [CHATML, _BUSY])
def test_equals_transformers(tokenizer: Tokenizer, tmp_path: Path, template: str) -> None:
    ours = tokenizer.with_roles(chat_template=template, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    ours.save(tmp_path)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for messages in (_CHAT, _CHAT[:2], _CHAT[1:3]):
        for prompt in (False, True):
            text = peer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert chat.render(ours, messages, prompt) == text
            expected = peer.apply_chat_template(
                messages, add_generation_prompt=prompt, return_dict=True, return_assistant_tokens_mask=True
            )
            ids, mask = chat.encode(ours, messages, prompt)
            assert ids.tolist() == expected["input_ids"]
            assert mask.astype(int).tolist() == expected["assistant_masks"]
            assert ours.decode(ids) == text
    tools = [{"name": "f", "parameters": {"é": [1]}}]
    expected_text = peer.apply_chat_template(_CHAT, tools=tools, tokenize=False)
    assert chat.render(ours, _CHAT, tools=tools) == expected_text


def test_the_mask_is_the_answer_and_its_end(tokenizer: Tokenizer) -> None:
    ids, mask = chat.encode(tokenizer, _CHAT)
    assert tokenizer.decode(ids[mask]) == " Hallo! 👋\n<|im_end|>x<|im_end|>"
    assert mask.dtype == np.bool_


_SPELLS = st.lists(
    st.sampled_from([*CHATML_TOKENS, "<|im_", "end|>", "<|", "|>", "<", ">", "\n", "user", " hello", "<|im_end|", "é"]),
    max_size=8,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(question=_SPELLS, answer=_SPELLS)
def test_messages_cannot_write_control_tokens(tokenizer: Tokenizer, question: str, answer: str) -> None:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids, mask = chat.encode(tokenizer, messages)
    control = [number for number in ids.tolist() if number < len(CHATML_TOKENS)]
    assert control == [2, 3, 2, 3]
    assert tokenizer.decode(ids) == chat.render(tokenizer, messages)
    assert tokenizer.decode(ids[mask]) == answer + "<|im_end|>"


def test_what_cannot_be_rendered(tokenizer: Tokenizer) -> None:
    def with_template(template: str | None) -> Tokenizer:
        return tokenizer.with_roles(chat_template=template)

    with pytest.raises(ConfigError, match="no chat template"):
        chat.render(with_template(None), _CHAT)
    with pytest.raises(ConfigError, match="line 1"):
        chat.render(with_template("{% for %}"), _CHAT)
    with pytest.raises(ConfigError, match="generation"):
        chat.encode(with_template("{{ messages[0].content }}"), _CHAT)
    with pytest.raises(DataError, match="no messages <here>"):
        chat.render(with_template(_BUSY), [])
    with pytest.raises(DataError, match="refused"):  # the sandbox
        chat.render(with_template("{{ messages.append(1) }}"), _CHAT)
    with pytest.raises(DataError, match="noncharacter"):
        chat.render(tokenizer, [{"role": "user", "content": "\ufdd1"}])
    with pytest.raises(DataError, match="refused"):
        chat.render(tokenizer, [{"role": "user"}])


def test_fertility(tokenizer: Tokenizer) -> None:
    texts = ["hello there", "héllo <|im_end|>"]
    found = audit.fertility(tokenizer, texts)
    ids = [tokenizer.encode(text, parse_special=False) for text in texts]
    assert (found["texts"], found["words"], found["characters"], found["bytes"]) == (2, 4, 27, 28)
    assert found["tokens"] == sum(map(len, ids))
    assert found["tokens_per_word"] == found["tokens"] / 4
    assert found["bytes_per_token"] == 28 / found["tokens"]
    assert found["unused_tokens"] == tokenizer.vocab_size - 4 - len(set(np.concatenate(ids).tolist()))
    assert found["continued_words"] == 0.5
    with pytest.raises(DataError):
        audit.fertility(tokenizer, [" "])


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'a long line of text' * 99 }}{% endfor %}",
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'x'.center(10 ** 12) }}",
        "{{ 'x' | center(1000000000000) }}",
        "{{ '{:>1000000000}'.format('x') }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{% set n = namespace(x='xx') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='xx') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='xx') %}{% for i in range(64) %}{% set n.x = n.x.replace('x', n.x) %}{% endfor %}",
        "{% set n = namespace(x='xx') %}{% for i in range(64) %}{% set n.x = [n.x, n.x] | join %}{% endfor %}",
        "{% set n = namespace(x='x') %}{% for i in range(64) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
        "{{ range(10 ** 12) | list }}",
        "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    ],
)
def test_templates_that_never_end_are_stopped(
    tokenizer: Tokenizer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed.tokenizers.templates._STEPS", 50_000)
    with pytest.raises(DataError, match=r"chat_template: the chat template (was stopped|refused)"):
        chat.render(tokenizer.with_roles(chat_template=template), _CHAT)

"""Chats as text and as ids: the chat template (Jinja2, sandboxed), rendered as `transformers` renders it.

Two things are known of a rendered chat beyond its text. What the assistant said is marked by the template with
`{% generation %}` and becomes the mask for the loss. And control tokens count only where the template wrote them: a
message that spells `<|im_end|>` is encoded as those characters, so no content can end a turn or begin another.

Both are carried through the rendering by noncharacters of Unicode (U+FDD0 and following), which occur in no valid text:
one stands inside each control token that a message spells, two others around what the assistant said.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from .templates import render_template
from .tokenizer import Tokenizer

# ChatML, with marks around what the assistant says and the token that ends its turn.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
END_OF_TEXT, PAD, TURN, END_OF_TURN = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
CHATML_TOKENS = (END_OF_TEXT, PAD, TURN, END_OF_TURN)

Messages = Sequence[Mapping[str, Any]]

_SHIELD, _FROM, _TO = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKS = re.compile(f"[{_SHIELD}{_FROM}{_TO}]")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def render(tokenizer: Tokenizer, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> str:
    """The chat as text, as `transformers`' apply_chat_template(tokenize=False) gives it.

    Args:
        messages: dicts with "role" and "content" (and whatever else the template reads).
        add_generation_prompt: end with the opening of the assistant's turn.
        variables: further names for the template, say `tools` or `documents`.

    Raises:
        ConfigError: the tokenizer has no chat template, or it is not a valid one.
        DataError: the template refused the messages, or they hold noncharacters that are used here.
    """
    return _MARKS.sub("", _render(tokenizer, messages, add_generation_prompt, variables))


def encode(
    tokenizer: Tokenizer, messages: Messages, add_generation_prompt: bool = False, **variables: Any
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The chat as ids, uint32 (n,), and the mask of what the assistant said and its end of turn, bool (n,).

    Control tokens that messages spell are ordinary text. Arguments and errors as `render`; also:

    Raises:
        ConfigError: there are assistant turns to learn from, and the template has no `{% generation %}` marks (asked
            only without `add_generation_prompt`; with it, a template without marks gives an empty mask).
    """
    template = tokenizer.chat_template or ""
    says = any(message.get("role") == "assistant" for message in messages)
    if says and not add_generation_prompt and not _GENERATION.search(template):
        raise ConfigError("the chat template does not mark what the assistant says with {% generation %}")
    marked = _render(tokenizer, messages, add_generation_prompt, variables)
    pieces, spans = _pieces(marked, _special_pattern(tuple(tokenizer.special_tokens)))
    ids, starts, ends = [], [], []
    for piece in pieces:
        if piece.special:
            ids.append(np.array([tokenizer.special_tokens[piece.text]], dtype=np.uint32))
            offsets = np.array([[0, len(piece.text)]])
        else:
            some, offsets = tokenizer.encode_with_offsets(piece.text, parse_special=False)
            ids.append(some)
        starts.append(offsets[:, 0] + piece.start)
        ends.append(offsets[:, 1] + piece.start)
    if not ids:
        return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=bool)
    start, end = np.concatenate(starts), np.concatenate(ends)
    mask = np.zeros(len(start), dtype=bool)
    for since, until in spans:
        mask |= (start < until) & (end > since)
    return np.concatenate(ids), mask


class _Piece(NamedTuple):
    text: str  # without marks
    start: int  # in the text without marks
    special: bool  # a control token that the template wrote


def _pieces(marked: str, special: re.Pattern[str] | None) -> tuple[list[_Piece], list[tuple[int, int]]]:
    """Cut a marked text at the template's control tokens; also the spans of what the assistant said."""
    spans, since, position = [], 0, 0
    clean = []  # still with shields
    for part in re.split(f"([{_FROM}{_TO}])", marked):
        if part == _FROM:
            since = position
        elif part == _TO:
            spans.append((since, position))
        else:
            clean.append(part)
            position += len(part) - part.count(_SHIELD)
    text = "".join(clean)
    pieces, position = [], 0
    for part in special.split(text) if special else [text]:
        is_special = special is not None and special.fullmatch(part) is not None
        part = part.replace(_SHIELD, "")
        if part:
            pieces.append(_Piece(part, position, is_special))
            position += len(part)
    return pieces, spans


def _render(tokenizer: Tokenizer, messages: Messages, add_generation_prompt: bool, variables: dict[str, Any]) -> str:
    if tokenizer.chat_template is None:
        raise ConfigError("the tokenizer has no chat template", hint="Give one, say tokenizers.chat.CHATML.")
    special = tuple(tokenizer.special_tokens)
    shielded = [_shield(message, special) for message in messages]
    roles = tokenizer.roles
    tokens = {name: getattr(roles, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    given = {name: token for name, token in tokens.items() if token is not None}
    given |= {"tools": None, "documents": None} | {key: _shield(value, special) for key, value in variables.items()}
    return render_template(
        tokenizer.chat_template, marks=(_SHIELD, _FROM, _TO),
        messages=shielded, add_generation_prompt=add_generation_prompt, **given,
    )  # fmt: skip


@functools.cache
def _special_pattern(special: tuple[str, ...]) -> re.Pattern[str] | None:
    longest_first = sorted(special, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if special else None


def _shield(value: Any, special: tuple[str, ...]) -> Any:
    """A copy of what messages hold, plain and with a mark in each control token that a string spells."""
    if isinstance(value, str):
        return _shield_text(str(value), special)
    if isinstance(value, Mapping):
        return {key: _shield(item, special) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shield(item, special) for item in value]
    return value


def _shield_text(text: str, special: tuple[str, ...]) -> str:
    if _MARKS.search(text):
        raise DataError("a message holds a noncharacter (U+FDD0 to U+FDD2), which is no text")
    pattern = _special_pattern(special)
    if pattern is None:
        return text
    if any(len(token) == 1 and token in text for token in special):
        raise DataError("a message spells a control token of one character, which cannot be told from the template's")
    # A mark between all characters of a control token: no part of it can be one either.
    text = pattern.sub(lambda match: _SHIELD.join(match[0]), text)
    # Nor may a beginning at the end of a message go on in what the template writes behind it.
    if any(text.endswith(token[:length]) for token in special for length in range(1, len(token))):
        text += _SHIELD
    # Nor an end at the start of a message finish what the template wrote before it.
    if any(text.startswith(token[-length:]) for token in special for length in range(1, len(token))):
        text = _SHIELD + text
    return text

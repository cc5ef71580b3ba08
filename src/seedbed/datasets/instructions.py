"""Instruction rows: made from a corpus itself or read from a file, and encoded for fine-tuning.

A row is `{"messages": [{"role", "content"}, ...], "subject": what is asked about, "source": the document's id}`.
Documents that open with their own dotted name (Python's documentation) are asked what the thing does or is and which
parameters it takes; other documents what their title, their headings and their words are about. Answers are complete
sentences of the document that name the subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from ..core.config import Config
from ..core.errors import DataError
from ..core.ragged import Ragged
from ..core.randomness import derive_seed, numpy_generator
from .jsonl import Row, Rows, read_rows
from .sentences import complete, paragraphs, plain, sections, split_sentences

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

Turns = tuple[tuple[str, str], ...]  # (role, content) of each message

_DOES = ("What does `{}` do?", "What is `{}` for?", "Explain what `{}` does.", "Describe `{}`.")
_IS = ("What is `{}`?", "Describe `{}`.", "Explain what `{}` is.")
_TAKES = ("What are the parameters of `{}`?", "Which arguments does `{}` take?", "What do I pass to `{}`?")
_ABOUT = ("What is `{}` about?", "Tell me about `{}`.", "How does `{}` begin?")
_SAYS = ("What is said about `{}`?", "Tell me something about `{}`.", "What do you know about `{}`?")

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_VERBS = frozenset(
    """accept acquire add adjust allow append apply ask assert attach attempt bind build calculate call cancel change
    check clear close collect combine compare compile compute configure connect construct convert copy count create
    decide decode define delete deserialize destroy determine disable discard dispatch display do draw dump emit enable
    encode
    ensure enter escape evaluate execute expand extract feed fetch fill find finish flush force forward generate get
    give guess handle implement import indicate initialize insert inspect install instantiate invoke iterate join keep
    load locate look make map mark merge modify move normalize notify obtain open override parse perform pop prepare
    prevent print produce provide push put query quote raise read receive record register release reload remove rename
    render replace report represent request reset resolve restore retrieve return rotate run save scan schedule search
    select send serialize set show shuffle shut skip sort specify split start stop store strip subtract support suspend
    swap take tell terminate transform translate try turn unbind undo unregister update use validate verify wait wake
    walk warn wrap write yield""".split()
)  # fmt: skip


class InstructionConfig(Config):
    """How rows are made from documents."""

    rows_per_document: int = Field(default=3, ge=1)
    max_rows: int = Field(default=50_000, ge=1)
    min_words: int = Field(default=3, ge=1)  # of the sentence taken from the document
    max_words: int = Field(default=16, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> InstructionConfig:
        if self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self


def instruction_rows(
    documents: Iterable[Mapping[str, Any]], config: InstructionConfig | None = None, seed: int = 0
) -> list[Row]:
    """Rows from documents with `id`, `title` and `text` (a corpus table's `to_pylist()`), at most `max_rows`.

    A document's rows depend on the document and the seed alone. When there are too many rows, each document's first
    ones are kept before any document's second.
    """
    config = config or InstructionConfig()
    ranked: list[tuple[int, int, Row]] = []
    for number, document in enumerate(documents):
        phrasing = numpy_generator(seed, "instructions", str(document["id"]))
        for rank, (subject, phrases, answer) in enumerate(_limited(_questions(document, config), config)):
            question = phrases[int(phrasing.integers(len(phrases)))].format(subject)
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            row = {"messages": messages, "subject": subject, "source": str(document["id"])}
            ranked.append((rank, number, row))
    if len(ranked) > config.max_rows:
        ranked = sorted(ranked, key=lambda one: (one[0], derive_seed(seed, one[2]["source"])))[: config.max_rows]
    return [row for _, _, row in sorted(ranked, key=lambda one: (one[1], one[0]))]


_Question = tuple[str, tuple[str, ...], str]


def _limited(questions: Iterator[_Question], config: InstructionConfig) -> Iterator[_Question]:
    asked: set[tuple[str, tuple[str, ...]]] = set()
    for question in questions:
        if len(asked) == config.rows_per_document:
            return
        if question[:2] not in asked:
            asked.add(question[:2])
            yield question


def _questions(document: Mapping[str, Any], config: InstructionConfig) -> Iterator[_Question]:
    title, text = str(document.get("title") or "").strip(), str(document["text"])
    if _NAME.fullmatch(title) and re.match(re.escape(title) + r"\s*(\(|\n|$)", text):
        yield from _about_code(title, text, config)
    else:
        yield from _about_prose(title, text, config)


def _about_code(title: str, text: str, config: InstructionConfig) -> Iterator[_Question]:
    """Questions about a documented name: what it does or is, and its parameters."""
    signature, _, documentation = text.partition("\n\n")
    # Two components say which thing is meant; whole paths of packages are long to read and to write.
    subject = ".".join(title.split(".")[-2:])
    opening = split_sentences((paragraphs(documentation) or [""])[0])
    sentence = complete(opening[0], config.min_words, config.max_words) if opening else None
    if sentence:
        yield _describe(subject, sentence)
    names = parameters(signature[len(title) :])
    if names and len(names) <= 8:
        yield subject, _TAKES, f"`{subject}` takes {_listed(names)}."


def _describe(subject: str, sentence: str) -> _Question:
    """'Return the sum.' of f as '`f` returns the sum.', and 'A list.' as '`f` is a list.'"""
    first, _, rest = sentence.partition(" ")
    verb = _third_person(first, rest)
    if verb:
        return subject, _DOES, f"`{subject}` {verb} {rest}"
    if first in ("A", "An", "The"):
        return subject, _IS, f"`{subject}` is {first.lower()} {rest}"
    return subject, _IS, f"`{subject}`: {sentence}"


def _third_person(word: str, rest: str) -> str | None:
    verb = word.lower()
    if rest.startswith("of "):
        return None  # "Set of names" is no verb
    for base in (verb, verb[:-1], verb[:-2], verb[:-3] + "y"):
        if base in _VERBS and verb in (base, _conjugated(base)):
            return _conjugated(base)
    return None


def _conjugated(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|o)$", verb) else "s")


def parameters(signature: str) -> list[str] | None:
    """Names of the parameters of `(a, b=1, *, c: int = 2) -> int`, without self and cls; None if it has no brackets."""
    if not signature.startswith("("):
        return None
    parts, depth, part = [], 0, ""
    for character in signature:
        depth += (character in "([{") - (character in ")]}")
        if depth == 1 and character == ",":
            parts.append(part)
            part = ""
        elif depth == 0:
            break
        elif not (depth == 1 and character == "("):
            part += character
    names = [re.split(r"[:=]", piece)[0].strip() for piece in [*parts, part]]
    named = [name for name in names if re.fullmatch(r"\*{0,2}[A-Za-z_]\w*", name)]
    return named[1:] if named[:1] in (["self"], ["cls"]) else named


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _about_prose(title: str, text: str, config: InstructionConfig) -> Iterator[_Question]:
    """Questions about a title, its headings, and the longest words of opening sentences of paragraphs."""
    for heading, body in [(_as_title(title), text), *sections(text)]:
        opening = split_sentences((paragraphs(body) or [""])[0])
        sentence = complete(opening[0], config.min_words, config.max_words) if opening else None
        if sentence and re.search(r"[A-Za-z]{2}", heading) and len(heading.split()) <= 10 and "`" not in heading:
            yield heading, _ABOUT, f"{heading[:1].upper()}{heading[1:]}: {sentence}"
    for paragraph in paragraphs(text):
        for sentence in split_sentences(paragraph)[:3]:
            answer = complete(sentence, max(config.min_words, 5), config.max_words)
            words = re.findall(r"[^\W\d_]{6,}", answer or "")
            if answer and words:
                yield max(words, key=len).lower(), _SAYS, answer


def _as_title(title: str) -> str:
    """A title as it would be written in a sentence: file names lose their folder and their ending."""
    name = title.rsplit("/", 1)[-1]
    return plain(re.sub(r"\.\w{1,5}$", "", name).replace("_", " ")) if name else ""


def read_instructions(path: str | Path) -> Rows:
    """Rows of a user's JSONL, or of a JSON list: `{"messages": [...]}`, ShareGPT's `{"conversations": [...]}`,
    `{"instruction", "input", "output"}`, `{"question", "answer"}` or `{"prompt", "completion"}`.

    Rows without an answer, and rows that are malformed, are in `.rejected` with line and reason.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return read_rows(path, _parse, say_where=True)


_PAIRS = {"instruction": "output", "question": "answer", "prompt": "completion"}  # what is asked, and what is answered


def _parse(row: Row) -> Row:
    if "messages" in row or "conversations" in row:
        turns = row.get("messages", row.get("conversations"))
        messages = checked_messages([from_sharegpt(one) for one in turns] if isinstance(turns, list) else turns)
    elif asked := next((key for key in _PAIRS if key in row), None):
        answered = _PAIRS[asked]
        for key in (asked, "input", answered):
            if not isinstance(row.get(key) or "", str):
                raise ValueError(f"'{key}' is not text")
        question = "\n\n".join(part for part in (row[asked], row.get("input")) if part and part.strip())
        if not question:
            raise ValueError(f"empty {asked}")
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": row.get(answered) or ""}]
    else:
        raise ValueError(f"none of 'messages', 'conversations', {', '.join(repr(key) for key in _PAIRS)}")
    if not any(one["role"] == "assistant" and one["content"].strip() for one in messages):
        raise ValueError("no answer")
    return {"messages": messages, "subject": row.get("subject"), "source": str(row.get("source") or "")}


def from_sharegpt(message: Any) -> Any:
    """A ShareGPT message `{"from", "value"}` as `{"role", "content"}`; anything else as it is."""
    roles = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
    if isinstance(message, dict) and "from" in message and "role" not in message:
        return {"role": roles.get(str(message["from"]), str(message["from"])), "content": message.get("value")}
    return message


def checked_messages(messages: Any) -> list[dict[str, str]]:
    """Messages whose roles and texts are in order.

    Raises:
        ValueError: what is wrong with them.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' is not a list of messages")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"message {number} has no text 'content'")
        if message.get("role") not in ("system", "user", "assistant"):
            raise ValueError(f"message {number} has the role {message.get('role')!r} (system, user or assistant)")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


_FEW_SOURCES = 10  # with fewer, rows are held out one by one


def hold_out(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and about a `share` of them to judge by, each in their order.

    What is of one source (a document, or a line of a file) is on one side; which one depends on it and the seed.

    Raises:
        DataError: there are too few rows.
    """
    if len(rows) < 2:
        raise DataError("there are too few rows to hold some of them out")
    sources: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        sources.setdefault(str(row.get("source") or f"row {number}"), []).append(number)
    if len(sources) < _FEW_SOURCES:
        sources = {f"row {number}": [number] for number in range(len(rows))}
    held: set[int] = set()
    for source in sorted(sources, key=lambda one: derive_seed(seed, "held-out", one))[:-1]:
        if len(held) >= max(1, round(share * len(rows))):
            break
        held.update(sources[source])
    sides: tuple[list[Row], list[Row]] = ([], [])
    for number, row in enumerate(rows):
        sides[number in held].append(row)
    return sides


_DROPPED = "the chat template drops the answer"


@dataclass(frozen=True)
class EncodedInstructions:
    """Token ids and the answers' mask, both Ragged over rows; rows that could not be used are counted."""

    ids: Ragged
    answers: Ragged  # True on the assistant's tokens, with the <|im_end|> that ends them
    too_long: int
    without_answer: int  # the chat template left nothing of the answer
    left_out: tuple[tuple[str, str], ...] = ()  # where each of these rows is from, and why

    def __len__(self) -> int:
        return len(self.ids)


def encode_instructions(rows: Iterable[Row], tokenizer: Tokenizer, context_length: int) -> EncodedInstructions:
    """Render by the chat template and encode; rows longer than `context_length` tokens are left out and counted.

    Raises:
        DataError: no row is left.
    """
    from ..tokenizers import chat

    ids, answers, left_out = [], [], []
    for row in rows:
        row_ids, mask = chat.encode(tokenizer, row["messages"])
        source = str(row.get("source") or "")
        if len(row_ids) > context_length:
            left_out.append((source, f"longer than {context_length} tokens"))
        elif not mask.any():
            left_out.append((source, _DROPPED))
        else:
            ids.append(row_ids)
            answers.append(mask)
    without_answer = sum(reason == _DROPPED for _, reason in left_out)
    too_long = len(left_out) - without_answer
    if not ids:
        raise DataError(
            f"no instruction can be trained on ({too_long} longer than {context_length} tokens, "
            f"{without_answer} whose answer the chat template drops)"
        )
    encoded, masks = Ragged.from_rows(ids, np.uint32), Ragged.from_rows(answers, np.bool_)
    return EncodedInstructions(encoded, masks, too_long, without_answer, tuple(left_out))


def encode_prompt(tokenizer: Tokenizer, prompt: str | Turns) -> np.ndarray:
    """Token ids of one user turn, or of several turns, up to where the assistant begins to answer: uint32 (n,)."""
    from ..tokenizers import chat

    turns = (("user", prompt),) if isinstance(prompt, str) else prompt
    messages = [{"role": role, "content": content} for role, content in turns]
    return chat.encode(tokenizer, messages, add_generation_prompt=True)[0]


def question_of(row: Row) -> str | None:
    """The user's question of a row that is a single turn, else None."""
    messages = row["messages"]
    single = len(messages) == 2 and messages[0]["role"] == "user" and messages[1]["role"] == "assistant"
    return messages[0]["content"] if single else None

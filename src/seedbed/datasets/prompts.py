"""Prompts to be answered, each with its right answer where one is known: `{"prompt", "answer"}`."""

from __future__ import annotations

from pathlib import Path

from .instructions import checked_messages
from .jsonl import Row, Rows, read_rows
from .preferences import parse_prompt


def read_prompts(path: str | Path) -> Rows:
    """Rows of a user's JSONL: "prompt" (or "question", "instruction", "messages"), and "answer" (or "output").

    Of messages the last one is the answer if it is the assistant's. Preference rows are prompts, too.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return read_rows(path, _parse, say_where=True)


def _parse(row: Row) -> Row:
    answer = row.get("answer", row.get("output"))
    if answer is not None and not isinstance(answer, str):
        raise ValueError("'answer' is not text")
    if "messages" in row:
        turns = checked_messages(row["messages"])
        if turns[-1]["role"] == "assistant":
            answer = turns.pop()["content"] if answer is None else answer
        return {"prompt": parse_prompt({"prompt": turns}), "answer": answer}
    if "instruction" in row and "prompt" not in row:
        parts = (row["instruction"], row.get("input"))
        if not all(isinstance(part or "", str) for part in parts):
            raise ValueError("'instruction' or 'input' is not text")
        row = {**row, "prompt": "\n\n".join(part for part in parts if part and part.strip())}
    elif "question" in row and "prompt" not in row:
        row = {**row, "prompt": row["question"]}
    return {"prompt": parse_prompt(row), "answer": answer}

"""Texts as tokens and back, in vLLM's shape."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from .body import Body, ModelName, TokenId
from .generation import Message


class TokenizeRequest(Body):
    model: ModelName
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    """A chat in place of a text, as the model would read it."""
    add_special_tokens: bool = False
    """Put around a text what the tokenizer puts around texts."""


class Token(BaseModel):
    id: int
    text: str
    bytes: list[int]
    start: int
    """Characters of the text that it stands for; -1 in a chat, and where it stands for none."""
    end: int


class TokenizeAnswer(BaseModel):
    model: str
    count: int
    max_model_len: int
    tokens: list[int]
    pieces: list[Token]


class DetokenizeRequest(Body):
    model: ModelName
    tokens: list[TokenId]


class DetokenizeAnswer(BaseModel):
    prompt: str

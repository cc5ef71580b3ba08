"""What is served, and how it is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ServedModel(BaseModel):
    """A model; what it is for is told by `kind`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Literal["chat", "completion", "embedding"]
    context_length: int
    parameters: int


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ServedModel]


class Health(BaseModel):
    status: Literal["ok", "draining", "failed"]
    waiting: dict[str, int]
    running: dict[str, int]

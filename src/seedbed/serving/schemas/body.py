"""What all bodies of requests have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
ModelName = Annotated[str, Field(min_length=1)]


class Body(BaseModel):
    """Of a request: what it does not know it refuses, as a misspelt wish would else be lost in silence."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

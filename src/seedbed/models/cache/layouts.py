"""Where a cache keeps the tokens of a row, which of them a query sees and how far away, and the bytes that takes.

B rows, T new tokens, S columns that are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ...core.config import Config
from ...core.errors import ConfigError
from ..config import ModelConfig
from ..masks import additive

_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
_SCALE_BYTES = 4
_NOWHERE = 1 << 40  # the position of an empty column: ahead of every query


class CacheConfig(Config):
    """What a cache keeps of each row.

    full: every token. window: the `window` latest tokens; of a model with windows of its own those, in the layers that
    have them, and every token in the others, so that nothing that the model sees is lost. sinks: the first `sinks`
    tokens and the `window` latest ones, with positions counted within the cache (StreamingLLM, Xiao et al. 2024,
    section 3.2).

    slack: the most tokens that one step may bring where old ones make room; they need columns of their own.
    dtype: of keys and values; "model": that of the model. "int8": a byte for each number and a scale for each head.
    """

    kind: Literal["full", "window", "sinks"] = "full"
    window: Annotated[int, Field(ge=0, le=1 << 24)] = 0
    sinks: Annotated[int, Field(ge=1, le=1024)] = 4
    slack: Annotated[int, Field(ge=1, le=1 << 16)] = 64
    dtype: Literal["model", "float32", "bfloat16", "float16", "int8"] = "model"

    @model_validator(mode="after")
    def _check(self) -> CacheConfig:
        if self.kind == "full" and self.window:
            raise ValueError("a full cache has no window; choose kind 'window' or 'sinks'")
        if self.kind == "sinks" and not self.window:
            raise ValueError("a cache of kind 'sinks' needs a window")
        return self

    def layouts(self, model: ModelConfig, capacity: int) -> tuple[Layout, Layout]:
        """Those of the layers without and with a window of their own, for rows of at most `capacity` tokens.

        Raises:
            ConfigError: the model's attention does not go with this kind of cache.
        """
        full = Layout(capacity)
        if self.kind == "full":
            return full, full
        if self.kind == "sinks":
            if model.window:
                raise ConfigError("the model has windows of its own", where="cache", hint="Choose 'window'.")
            if model.positions in ("learned", "sinusoidal"):
                raise ConfigError(
                    f"{model.positions} positions are part of what tokens are, and cannot be counted anew in a cache",
                    where="cache",
                    hint="Choose 'window'.",
                )
            moving = self._ring(self.window, self.sinks, capacity, moving=True)
            return moving, moving
        if model.window:
            local = self._ring(model.window, model.sink_tokens, capacity)
            return full, local
        if not self.window:
            raise ConfigError("the model has no window of its own", where="cache", hint="Give the cache one.")
        ring = self._ring(self.window, 0, capacity)
        return ring, ring

    def kept(self, model: ModelConfig) -> int | None:
        """Tokens of a row that any layer can still see in the end; None: all."""
        if self.kind == "sinks":
            return self.sinks + self.window
        if self.kind == "full" or any(not model.windowed(layer) for layer in range(model.layers) if model.window):
            return None
        return model.window + model.sink_tokens if model.window else self.window

    def _ring(self, window: int, sinks: int, capacity: int, moving: bool = False) -> Layout:
        ring = window - 1 + self.slack
        if moving:
            ring = min(ring, max(1, capacity - sinks))
        elif sinks + ring >= capacity:
            return Layout(capacity, window=window, sinks=sinks)
        return Layout(sinks + ring + (sinks if moving else 0), ring, window, sinks, moving)

    def bytes(self, model: ModelConfig, rows: int, tokens: int, dtype: str = "float32") -> int:
        """Bytes of keys and values of `rows` that may have `tokens` each, of a model in `dtype`: layers x rows x
        columns x (heads x width x bytes of a number) of both parts, with int8 and a scale for each head."""
        whole, local = self.layouts(model, tokens)
        kept = dtype if self.dtype == "model" else self.dtype
        per_column = sum(
            heads * (width * _ITEM_BYTES[kept] + (_SCALE_BYTES if kept == "int8" else 0))
            for heads, width in model.cache_shapes()
        )
        windowed = sum(model.windowed(layer) for layer in range(model.layers))
        columns = windowed * local.columns + (model.layers - windowed) * whole.columns
        return rows * columns * per_column


@dataclass(frozen=True)
class Layout:
    """Token t lies in column t; with a `ring`, the tokens behind the `sinks` take that many columns in turn.

    window: how far a query sees, itself included (0: to the beginning), the sinks always.
    moving: a query counts positions within the cache, so no sink is ever further away than `sinks + window - 1`. The
        sinks as they came lie behind the ring, and the first columns hold copies turned for the queries at hand.
    """

    columns: int
    ring: int = 0
    window: int = 0
    sinks: int = 0
    moving: bool = False

    def places(self, positions_BT: Tensor) -> Tensor:
        """The column of each token (B, T)."""
        if not self.ring:
            return positions_BT
        turns = self.sinks + (positions_BT - self.sinks) % self.ring
        first = positions_BT + (self.sinks + self.ring if self.moving else 0)
        return torch.where(positions_BT < self.sinks, first, turns)

    def held(self, ends_B: Tensor, columns: int) -> Tensor:
        """The position of the token in each of the first `columns`, of rows that end before `ends_B`: (B, S)."""
        column = torch.arange(columns, device=ends_B.device)
        if not self.ring:
            return column[None]
        latest = ends_B[:, None] - 1
        turned = latest - (latest - column) % self.ring
        turned = torch.where(turned < self.sinks, _NOWHERE, turned)
        return torch.where(column < self.sinks, column, turned)

    def read(self, longest: int) -> int:
        """Columns that hold anything, of rows with at most `longest` tokens."""
        return min(longest, self.sinks + self.ring) if self.ring else longest


class Visibility:
    """What T new tokens of every row see of the columns that are read.

    fresh: the rows were empty, and plain causal attention among the new tokens is all.
    crowded: moving sinks are at a distance of their own from each query, so each query has its own copies of them, and
        the columns read are T times the sinks, then the ring.
    """

    def __init__(self, layout: Layout, positions_BT: Tensor, used: int) -> None:
        self.layout, self.positions_BT = layout, positions_BT
        self.tokens = positions_BT.shape[1]
        longest = used + self.tokens
        self.columns = layout.read(longest)
        self.fresh = used == 0 and not (layout.window and self.tokens > layout.window)
        past_the_window = layout.moving and longest > layout.sinks + layout.window
        self.crowded = past_the_window and self.tokens > 1

    @cached_property
    def shifts_BT(self) -> Tensor:
        """How far a query's position within the cache lies below its position in the text."""
        return (self.positions_BT - (self.layout.sinks + self.layout.window - 1)).clamp(min=0)

    @cached_property
    def distance(self) -> Tensor:
        """Query position - key position (B or 1, T, S)."""
        if self.fresh:
            places = torch.arange(self.tokens, device=self.positions_BT.device)
            return (places[:, None] - places)[None]
        layout, positions_BT1 = self.layout, self.positions_BT[:, :, None]
        away = positions_BT1 - layout.held(self.positions_BT[:, -1] + 1, self.columns)[:, None]
        if layout.moving:
            sinks = away[:, :, : layout.sinks] - self.shifts_BT[:, :, None]
            if self.crowded:
                sinks = sinks.repeat(1, 1, self.tokens)
            away = torch.cat((sinks, away[:, :, layout.sinks :]), dim=-1)
        return away

    @cached_property
    def hidden(self) -> Tensor | None:
        """bool (B, T, S); None: causal attention among the new tokens."""
        if self.fresh:
            return None
        layout, away = self.layout, self.distance
        hidden = away < 0
        if not layout.window:
            return hidden
        sinks = layout.sinks * (self.tokens if self.crowded else 1)
        hidden[:, :, sinks:] |= away[:, :, sinks:] >= layout.window
        if self.crowded:
            own = torch.eye(self.tokens, dtype=torch.bool, device=hidden.device)
            hidden[:, :, :sinks] |= ~own.repeat_interleave(layout.sinks, dim=1)
        return hidden

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """`hidden` as what is added to scores, (B, 1, T, S)."""
        return None if self.hidden is None else additive(~self.hidden[:, None], dtype)

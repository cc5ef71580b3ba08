"""The key-value cache: preallocated blocks, with a length of its own for every row.

B rows, T new tokens, S columns read, G key-value heads, D head width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ModelConfig
from ..positions import Rotary, rotate
from .layouts import CacheConfig, Layout, Visibility

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


class Placement(NamedTuple):
    """Where a step's new tokens stand, and what they see in layers without and with a window of the model's own."""

    positions_BT: Tensor
    whole: Visibility
    local: Visibility


class KeyValueCache:
    """Keys and values (of latent attention: latents and rotary keys) of all rows in one block per layer, in place.

    Rows may have different lengths. Columns that hold no token of a row hold leftovers, which the mask hides and later
    tokens overwrite. One `begin`, one `extend` per layer and one `finish` make a step.

    Args:
        batch: rows.
        capacity: tokens that a row may have. What a full cache allocates; the others need no more than their window.
        dtype: of keys and values where `layout` does not say otherwise.
        layout: what is kept; by default every token.

    Attributes:
        keys, values: per layer (rows, columns, G, D).
        slots: None, or in a view of some rows their numbers (B,), int64.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        layout: CacheConfig | None = None,
    ) -> None:
        self.config, self.layout = config, layout or CacheConfig()
        kept = dtype if self.layout.dtype == "model" else _DTYPES[self.layout.dtype]
        self.capacity = capacity
        self._layouts = self.layout.layouts(config, capacity)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.scales: tuple[list[Tensor], list[Tensor]] | None = ([], []) if kept == torch.int8 else None
        for layer in range(config.layers):
            for part, (blocks, shape) in enumerate(zip((self.keys, self.values), config.cache_shapes(), strict=True)):
                size = (batch, self._layout_of(layer).columns, *shape)
                # Zeros, not empty memory: a hidden column is multiplied by a weight of zero, which NaN would survive.
                blocks.append(torch.zeros(size, device=device, dtype=kept))
                if self.scales is not None:
                    self.scales[part].append(torch.zeros(size[:3], device=device))
        self._memory: dict[int, tuple[Tensor, Tensor]] = {}
        self._lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self._known = [0] * batch  # the same lengths, known without asking the device
        self.slots: Tensor | None = None
        self._rows: Sequence[int] = range(batch)
        # Sinks of moving layouts are turned on; which of the two parts carries positions depends on the attention.
        self._rotary = Rotary(config.cache_shapes()[1][1], config.rope_theta, config.rope_scaling)
        self._placement: Placement | None = None

    # Rows

    def view(self, rows: Sequence[int]) -> KeyValueCache:
        """Some rows as a cache of their own, in the same memory. Neighbouring rows are read where they lie; others
        are gathered at every step."""
        some = copy.copy(self)
        some._rows = range(rows[0], rows[-1] + 1) if list(rows) == list(range(rows[0], rows[-1] + 1)) else list(rows)
        some.slots = torch.tensor(list(rows), dtype=torch.int64, device=self._lengths.device)
        some._placement = None
        return some

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for more rows, and of a full cache for more tokens in each. Views made before are void."""
        assert self.slots is None, "a view cannot grow"
        old = self._layouts
        self._layouts = self.layout.layouts(self.config, capacity)
        assert all(
            new == before or not (new.ring or before.ring) for new, before in zip(self._layouts, old, strict=True)
        )
        for blocks in self._all_blocks():
            for layer, block in enumerate(blocks):
                wider = block.new_zeros(rows, self._layout_of(layer).columns, *block.shape[2:])
                wider[: block.shape[0], : block.shape[1]] = block
                blocks[layer] = wider
        more = rows - len(self._known)
        self._lengths = torch.cat((self._lengths, self._lengths.new_zeros(more)))
        self._known += [0] * more
        self._rows, self.capacity = range(rows), capacity

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def numbers(self) -> Sequence[int]:
        """Which rows of the cache these are: of a view some, rising or not."""
        return self._rows

    @property
    def all_rows(self) -> int:
        """Of the cache, also of those that a view does not show."""
        return len(self._known)

    def places_in_memory(self) -> tuple[object, ...]:
        """Where it lies: equal as long as a step that was recorded with it may be replayed."""
        blocks = [block for part in self._all_blocks() for block in part]
        return (*(block.data_ptr() for block in blocks), blocks[0].shape, self._lengths.data_ptr(), self.capacity)

    @property
    def lengths(self) -> Tensor:
        """Tokens in each row (B,), int64: of a view a copy."""
        return self._lengths if self.slots is None else self._lengths[self.slots]

    @property
    def used(self) -> int:
        """Tokens in the longest row."""
        return max((self._known[row] for row in self._rows), default=0)

    @property
    def bytes(self) -> int:
        """Of keys, values and scales; `CacheConfig.bytes` foretells them."""
        scales = () if self.scales is None else (*self.scales[0], *self.scales[1])
        return sum(block.nbytes for block in (*self.keys, *self.values, *scales))

    def set_lengths(self, lengths_B: Tensor | Sequence[int]) -> None:
        """Forget what lies beyond each row's length (the padding of a prompt batch, a rejected draft)."""
        known = lengths_B.tolist() if isinstance(lengths_B, Tensor) else list(lengths_B)
        for row, length in zip(self._rows, known, strict=True):
            self._known[row] = length
        lengths_B = torch.as_tensor(lengths_B).to(self._lengths)
        if self.slots is None:
            self._lengths.copy_(lengths_B)
        else:
            self._lengths[self.slots] = lengths_B

    def share(self, source: int, targets: Sequence[int]) -> None:
        """Give the rows `targets` what row `source` holds: a prefix that several continue is computed once."""
        length = self._known[source]
        where = torch.tensor(list(targets), dtype=torch.int64, device=self._lengths.device)
        for blocks in self._all_blocks():
            for layer, block in enumerate(blocks):
                layout = self._layout_of(layer)
                columns = block.shape[1] if layout.ring else length
                block[where, :columns] = block[source, :columns].clone()
        self._lengths[where] = length
        for row in targets:
            self._known[row] = length

    def select(self, rows: Tensor) -> None:
        """Keep only `rows` (int64), in that order; a row may be repeated to share a prefix among samples."""
        assert self.slots is None, "of a view's rows none can be dropped"
        for blocks in self._all_blocks():
            blocks[:] = [block.index_select(0, rows) for block in blocks]
        self._memory = {
            layer: (keys.index_select(0, rows), values.index_select(0, rows))
            for layer, (keys, values) in self._memory.items()
        }
        self._lengths = self._lengths.index_select(0, rows)
        self._known = [self._known[row] for row in rows.tolist()]
        self._rows = range(len(self._known))

    # Steps

    def begin(self, tokens: int) -> Placement:
        """Make room for `tokens` more in every row: where they stand and what they see."""
        used = self.used
        if used + tokens > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens; {used} + {tokens} do not fit")
        if any(layout.ring for layout in self._layouts) and tokens > self.layout.slack:
            raise ValueError(f"{tokens} tokens are more than the {self.layout.slack} that one step may bring")
        positions_BT = self.lengths[:, None] + torch.arange(tokens, device=self._lengths.device)
        whole = Visibility(self._layouts[0], positions_BT, used)
        local = whole if self._layouts[0] is self._layouts[1] else Visibility(self._layouts[1], positions_BT, used)
        self._placement = Placement(positions_BT, whole, local)
        self._places: dict[Layout, Tensor] = {}
        return self._placement

    def extend(self, layer: int, k_BTGD: Tensor, v_BTGD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values; returns all that the queries may look at, (B, S, G, D)."""
        assert self._placement is not None
        seen = self._placement.local if self.config.windowed(layer) else self._placement.whole
        places = self._flat_places(seen.layout)
        keys = self._write_and_read(0, layer, places, k_BTGD, seen)
        values = self._write_and_read(1, layer, places, v_BTGD, seen)
        if seen.layout.moving and not seen.fresh:
            turned = 1 if self.config.latent else 0
            keys, values = (
                self._with_sinks(part, layer, block, seen, part == turned) for part, block in ((0, keys), (1, values))
            )
        return keys, values

    def memory(self, layer: int, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of what cross-attention reads, (B, S, G, D): computed by the first step and kept."""
        if layer not in self._memory:
            self._memory[layer] = compute()
        return self._memory[layer]

    def finish(self) -> None:
        """Count the tokens of this step."""
        assert self._placement is not None
        self.advance(self._placement.positions_BT.shape[1])
        self._placement = None

    def advance(self, tokens: int) -> None:
        """Count `tokens` more in every row: what a step calls that wrote keys and values itself."""
        if self.slots is None:
            self._lengths += tokens
        else:
            self._lengths[self.slots] += tokens
        for row in self._rows:
            self._known[row] += tokens

    # How blocks are written and read

    def _layout_of(self, layer: int) -> Layout:
        return self._layouts[1 if self.config.windowed(layer) else 0]

    def _all_blocks(self) -> list[list[Tensor]]:
        return [self.keys, self.values, *(self.scales or ())]

    def _flat_places(self, layout: Layout) -> Tensor:
        """Places of the new tokens in a block whose rows and columns are one axis, (B T,)."""
        found = self._places.get(layout)
        if found is None:
            assert self._placement is not None
            rows = torch.arange(len(self._lengths), device=self._lengths.device) if self.slots is None else self.slots
            found = (rows[:, None] * layout.columns + layout.places(self._placement.positions_BT)).flatten()
            self._places[layout] = found
        return found

    def _write_and_read(self, part: int, layer: int, places: Tensor, new: Tensor, seen: Visibility) -> Tensor:
        blocks, scales = (
            (self.keys, self.values)[part][layer],
            None if self.scales is None else self.scales[part][layer],
        )
        flat = blocks.flatten(0, 1)
        if scales is not None:
            numbers, steps = _quantised(new)
            flat.index_copy_(0, places, numbers.flatten(0, 1))
            scales.flatten(0, 1).index_copy_(0, places, steps.flatten(0, 1))
            if seen.fresh:
                # Not `new` itself: what a token sees must not depend on how a prompt was cut into steps.
                return _restored(numbers, steps, new.dtype)
            return _restored(self._rows_of(blocks, seen.columns), self._rows_of(scales, seen.columns), new.dtype)
        kept = new.to(blocks.dtype)
        flat.index_copy_(0, places, kept.flatten(0, 1))
        return (kept if seen.fresh else self._rows_of(blocks, seen.columns)).to(new.dtype)

    def _rows_of(self, block: Tensor, columns: int, start: int = 0) -> Tensor:
        part = block[:, start : start + columns]
        if isinstance(self._rows, range):
            return part[self._rows.start : self._rows.stop]
        return part.index_select(0, self.slots)  # type: ignore[arg-type]

    def _with_sinks(self, part: int, layer: int, block: Tensor, seen: Visibility, turn: bool) -> Tensor:
        """`block` with each query's copies of the sinks in front, at their distance within the cache: a key turned by
        its own position is turned on by as much as the query's position within the cache falls behind."""
        layout = seen.layout
        start = layout.sinks + layout.ring
        kept = (self.keys, self.values)[part][layer]
        sinks = self._rows_of(kept, layout.sinks, start)
        if self.scales is not None:
            scales = self._rows_of(self.scales[part][layer], layout.sinks, start)
            sinks = _restored(sinks, scales, block.dtype)
        sinks = sinks.to(block.dtype)[:, None]  # (B, 1, sinks, G, D)
        shifts_BT = seen.shifts_BT if seen.crowded else seen.shifts_BT[:, -1:]
        if turn and self.config.positions == "rotary":
            cos, sin = self._rotary.turn(shifts_BT, block)
            sinks = rotate(sinks, (cos.unsqueeze(2), sin.unsqueeze(2)))
        copies = sinks.expand(-1, shifts_BT.shape[1], -1, -1, -1).flatten(1, 2)
        if seen.crowded:
            return torch.cat((copies, block[:, layout.sinks :]), dim=1)
        # Where the block is the cache's own memory this writes to columns that nothing else reads.
        shown = min(layout.sinks, block.shape[1])
        block[:, :shown] = copies[:, :shown]
        return block


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127 and the step between two, one for each head of each token."""
    steps = x.abs().amax(dim=-1).float() / 127
    numbers = (x.float() / steps.clamp(min=torch.finfo(torch.float32).tiny)[..., None]).round()
    return numbers.to(torch.int8), steps


def _restored(numbers: Tensor, steps: Tensor, dtype: torch.dtype) -> Tensor:
    return (numbers.to(dtype) * steps[..., None].to(dtype)).to(dtype)

"""The key-value cache: preallocated, with a length of its own for every row.

B rows, S capacity in tokens, T new tokens, G key-value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .config import ModelConfig


class KeyValueCache:
    """Keys and values (of latent attention: latents and rotary keys) of `batch` rows in one block per layer, in place.

    Rows may have different lengths: token t of a row lies in column t, and columns from the row's length on hold
    leftovers that the mask hides and later tokens overwrite. `used` is the longest row's length, known without asking
    the device. One `begin`, one `extend` per layer and one `finish` make a step.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        first, second = ((batch, capacity, *shape) for shape in config.cache_shapes())
        # Zeros, not empty memory: a hidden column is multiplied by a weight of zero, which a stray NaN would survive.
        self.keys = [torch.zeros(first, device=device, dtype=dtype) for _ in range(config.layers)]
        self.values = [torch.zeros(second, device=device, dtype=dtype) for _ in range(config.layers)]
        self._memory: dict[int, tuple[Tensor, Tensor]] = {}
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.capacity, self.used = capacity, 0
        self._places: Tensor | None = None
        self._incoming = 0

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in (*self.keys, *self.values))

    def begin(self, tokens: int, mask_dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Make room for `tokens` more in every row.

        Returns: their positions (B, T), and the additive mask (B, 1, T, used + T), or None where plain causal
        attention among the new tokens is the same (the cache is empty).
        """
        if self.used + tokens > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens; {self.used} + {tokens} do not fit")
        self._incoming = tokens
        positions_BT = self.lengths[:, None] + torch.arange(tokens, device=self.lengths.device)
        if self.used == 0:
            self._places = None
            return positions_BT, None
        rows = torch.arange(len(self.lengths), device=self.lengths.device)[:, None] * self.capacity
        self._places = (rows + positions_BT).flatten()
        columns = torch.arange(self.used + tokens, device=self.lengths.device)
        hidden = columns > positions_BT[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=mask_dtype, device=hidden.device)
        return positions_BT, mask.masked_fill_(hidden, float("-inf"))

    def extend(self, layer: int, k_BTGD: Tensor, v_BTGD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values; returns all that the queries may look at, (B, S', G, D)."""
        keys, values, tokens = self.keys[layer], self.values[layer], self._incoming
        if self._places is None:
            keys[:, :tokens], values[:, :tokens] = k_BTGD, v_BTGD
            return k_BTGD, v_BTGD
        keys.flatten(0, 1).index_copy_(0, self._places, k_BTGD.flatten(0, 1))
        values.flatten(0, 1).index_copy_(0, self._places, v_BTGD.flatten(0, 1))
        return keys[:, : self.used + tokens], values[:, : self.used + tokens]

    def memory(self, layer: int, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of what cross-attention reads, (B, S, G, D): computed by the first step and kept."""
        if layer not in self._memory:
            self._memory[layer] = compute()
        return self._memory[layer]

    def finish(self) -> None:
        """Count the tokens of this step."""
        self.lengths += self._incoming
        self.used += self._incoming

    def set_lengths(self, lengths_B: Tensor, longest: int) -> None:
        """Forget what lies beyond each row's length (the padding of a prompt batch, a rejected draft)."""
        self.lengths, self.used = lengths_B.to(self.lengths), longest

    def select(self, rows: Tensor) -> None:
        """Keep only `rows` (int64), in that order; a row may be repeated to share a prefix among samples."""
        self.keys = [block.index_select(0, rows) for block in self.keys]
        self.values = [block.index_select(0, rows) for block in self.values]
        self._memory = {
            layer: (keys.index_select(0, rows), values.index_select(0, rows))
            for layer, (keys, values) in self._memory.items()
        }
        self.lengths = self.lengths.index_select(0, rows)

"""The step for GPUs: decoding is recorded once as a CUDA graph and replayed, as launching kernels one by one takes
longer than running them.

B rows, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..models import Decoder, FixedCache, KeyValueCache
from .torch_step import TorchStep

_FEWEST_COLUMNS = 128
_MOST_GRAPHS = 64  # each keeps its logits and its kernels' arguments


class _Shape(NamedTuple):
    rows: int
    columns: int


@dataclass
class _Recorded:
    """A step of one token for each of its first rows: ids (B, 1) in, logits (B, V) out, both where they lie.

    cache: kept, as its tensors are read by what was recorded, which does not keep them.
    """

    ids_B1: Tensor
    cache: FixedCache
    logits_BV: Tensor
    run: Callable[[], object]


class RecordedStep(TorchStep):
    """`TorchStep`, whose steps of one token a row with a full cache are recorded and replayed. Rows and columns are
    rounded up to powers of two, so that few recordings serve all; what is recorded reads the weights where they lie,
    and is recorded anew after a prompt that finds them elsewhere, or adapters switched.

    Args:
        model: any without a mixture of experts, which asks the device where tokens go.
        record: how a function is made into one that replays it; by default as a CUDA graph.
    """

    def __init__(self, model: Decoder, record: Callable[[Callable[[], Tensor]], Any] | None = None) -> None:
        super().__init__(model)
        self._record = record or _as_graph
        self._recorded: dict[_Shape, _Recorded] = {}
        self._reads: tuple[object, ...] = ()  # where the recorded steps read
        self._writes: tuple[object, ...] = ()  # and the cache that they are of

    @torch.inference_mode()
    def __call__(self, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
        if not self._serves(cache, ids_BT.shape[1]):
            return super().__call__(ids_BT, cache)
        self._require(cache)
        rows = cache.numbers
        recorded = self._step_of(cache, max(rows) + 1)
        where: Any = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        recorded.ids_B1[where] = ids_BT
        recorded.run()
        cache.advance(1)
        return recorded.logits_BV[where, None].clone()  # the next step writes over it

    @torch.inference_mode()
    def last(self, ids_BT: Tensor, columns_B: Tensor, cache: KeyValueCache) -> Tensor:
        reads = _reads(self.model)
        if reads != self._reads:
            self._reads = reads
            self._recorded.clear()
        return super().last(ids_BT, columns_B, cache)

    def _serves(self, cache: KeyValueCache, tokens: int) -> bool:
        length = cache.used + tokens
        return tokens == 1 and cache.layout.kind == "full" and 1 < length <= self.model.config.context_length

    def _require(self, cache: KeyValueCache) -> None:
        """Forget what was recorded with another cache."""
        writes = cache.places_in_memory()
        if writes != self._writes:
            self._writes = writes
            self._recorded.clear()

    def _step_of(self, cache: KeyValueCache, rows: int) -> _Recorded:
        columns = max(_FEWEST_COLUMNS, _power_of_two(cache.used + 1))
        columns = min(columns, cache.capacity, self.model.config.context_length)
        shape = _Shape(min(_power_of_two(rows), cache.all_rows), columns)
        if shape not in self._recorded:
            if len(self._recorded) >= _MOST_GRAPHS:
                self._recorded.clear()
            self._recorded[shape] = self._recording(cache, shape)
        return self._recorded[shape]

    def _recording(self, cache: KeyValueCache, shape: _Shape) -> _Recorded:
        fixed = FixedCache(cache, *shape)
        ids_B1 = torch.zeros(shape.rows, 1, dtype=torch.int64, device=cache.keys[0].device)
        run_eagerly = super().__call__
        logits_BV, run = self._record(lambda: run_eagerly(ids_B1, fixed)[:, 0])
        return _Recorded(ids_B1, fixed, logits_BV, run)


def _as_graph(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], object]]:
    """What `work` returns, and what writes it anew."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries make at first use must not be recorded
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()
    return found, graph.replay


def _reads(model: Decoder) -> tuple[object, ...]:
    """Where a model's numbers lie, and which of its adapters are in use."""
    places = [one.data_ptr() for one in (*model.parameters(), *model.buffers())]
    return (*places, *(one.in_use for one in model.modules() if hasattr(one, "in_use")))


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()

"""What the heads of a model look at. H heads, T queries, S keys."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .attention import Attention, LatentSelfAttention, attend, attention_weights
from .masks import Segments
from .transformer import Decoder, Encoder, EncoderDecoder

_Model = TypeVar("_Model", Decoder, Encoder, EncoderDecoder)


@dataclass(frozen=True)
class HeadMaps:
    """Attention weights of one row, by the name of the module that they are of, in the order of the pass.

    Rows of the last axis sum to 1 (less where heads have learned sinks).
    """

    by_module: dict[str, Tensor]  # (H, T, S)


class Inspected(Generic[_Model]):
    """A model whose attention can be looked at, while the model itself may go on serving others.

    It shares the weights of `model` and none of its modules, so nothing that is hung on here is seen there.
    """

    def __init__(self, model: _Model) -> None:
        self._maps: dict[str, Tensor] = {}
        shared: dict[int, Any] = {id(one): one for one in (*model.parameters(), *model.buffers())}
        self.model: _Model = copy.deepcopy(model, shared).eval()
        for name, module in self.model.named_modules():
            if isinstance(module, Attention | LatentSelfAttention):
                module.__dict__["attend"] = self._keeping(name)

    @torch.no_grad()
    def maps(self, *ids: Tensor) -> HeadMaps:
        """What each head looks at in one row: ids (1, T); of an encoder-decoder the source's and the target's."""
        self._maps = {}
        self.model(*ids)
        return HeadMaps(self._maps)

    def _keeping(self, name: str) -> Callable[..., Tensor]:
        def keep(
            q_BTHD: Tensor,
            k_BSGD: Tensor,
            v_BSGD: Tensor,
            mask: Tensor | Segments | None = None,
            causal: bool = False,
            **options: Any,
        ) -> Tensor:
            plain = mask.mask(q_BTHD.device) if isinstance(mask, Segments) else mask
            self._maps[name] = attention_weights(q_BTHD, k_BSGD, plain, causal, **options)[0]
            return attend(q_BTHD, k_BSGD, v_BSGD, mask, causal, **options)

        return keep

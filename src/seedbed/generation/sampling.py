"""Choosing the next token: greedy, temperature, truncation, penalties, and a random stream for every request.

B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..core.config import Config
from ..core.randomness import numpy_generator


class Sampling(Config):
    """How one request's tokens are chosen. Applied in the order of the fields; the defaults sample the model as it is.

    repetition_penalty: divides positive and multiplies negative logits of tokens already in prompt or text (CTRL,
        Keskar et al. 2019). temperature: 0 is greedy. top_k: the k likeliest tokens, 0 for all. top_p: the fewest
        likeliest tokens that hold this much of what is left (Holtzman et al. 2020). min_p: tokens at least this likely
        relative to the likeliest. stop: texts that end the request and are cut off.
    """

    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 64
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seed: int = 0


class Sampler:
    """Chooses for a batch of requests at once; a row depends on its own logits, settings and random stream alone.

    Args:
        samplings: one per row.
        streams: one per row; names the row's random stream within its seed.
        steps: tokens that any row may ask for.
    """

    def __init__(
        self, samplings: Sequence[Sampling], streams: Sequence[int], steps: int, device: torch.device | str = "cpu"
    ) -> None:
        def column(name: str) -> Tensor:
            return torch.tensor([[getattr(sampling, name)] for sampling in samplings], device=device)

        temperature = column("temperature").float()
        self.greedy = temperature == 0
        self.temperature = torch.where(self.greedy, 1.0, temperature)
        self.penalty, self.top_k = column("repetition_penalty").float(), column("top_k")
        self.top_p, self.min_p = column("top_p").double(), column("min_p").double()
        self.any_greedy, self.all_greedy = bool(self.greedy.any()), bool(self.greedy.all())
        self.any_penalty = bool((self.penalty != 1).any())
        self.largest_k = int(self.top_k.max())
        self.any_top_p, self.any_min_p = bool((self.top_p < 1).any()), bool((self.min_p > 0).any())
        self.any_warm = bool((self.temperature != 1).any())
        # All of a row's random numbers are drawn beforehand: no work per row remains between two steps.
        uniforms = np.zeros((len(samplings), 0 if self.all_greedy else steps))
        for row, (sampling, stream) in enumerate(zip(samplings, streams, strict=True)):
            if sampling.temperature > 0:
                count = min(sampling.max_new_tokens, steps)
                uniforms[row, :count] = numpy_generator(sampling.seed, "sampling", stream).random(count)
        self.uniforms = torch.from_numpy(uniforms).to(device)

    def select(self, rows: Tensor) -> None:
        """Keep only `rows` (int64)."""
        for name in ("greedy", "temperature", "penalty", "top_k", "top_p", "min_p", "uniforms"):
            setattr(self, name, getattr(self, name)[rows])

    def choose(self, logits_BV: Tensor, step: int, seen_BV: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next token of every row and its log-probability.

        Args:
            step: how many tokens the rows have chosen before.
            seen_BV: bool, tokens that the penalty weighs on.
        Returns: ids (B,) int64 and log-probabilities (B,) float32 under the model's distribution at the row's
            temperature (greedy: at 1), before penalties and truncation: what an importance ratio needs.
        """
        logits_BV = logits_BV.float()
        scaled_BV = logits_BV / self.temperature if self.any_warm else logits_BV
        logprobs_BV = scaled_BV.log_softmax(dim=-1)
        if self.any_penalty and seen_BV is not None:
            penalised = torch.where(scaled_BV > 0, scaled_BV / self.penalty, scaled_BV * self.penalty)
            scaled_BV = torch.where(seen_BV, penalised, scaled_BV)
            weights_BV = None if self.all_greedy else scaled_BV.softmax(dim=-1)
        else:
            weights_BV = None if self.all_greedy else logprobs_BV.exp()
        if weights_BV is None:
            ids_B = scaled_BV.argmax(dim=-1)
        else:
            ids_B = self._draw(self._truncate(weights_BV), step)
            if self.any_greedy:
                ids_B = torch.where(self.greedy[:, 0], scaled_BV.argmax(dim=-1), ids_B)
        return ids_B, logprobs_BV.gather(-1, ids_B[:, None])[:, 0]

    def _truncate(self, weights_BV: Tensor) -> Tensor:
        """Set the weights of tokens that are cut to zero; of tokens as likely as the last one kept, none is cut."""
        vocabulary = weights_BV.shape[-1]
        if self.largest_k:
            likeliest = weights_BV.topk(min(self.largest_k, vocabulary), dim=-1).values
            last = likeliest.gather(-1, (self.top_k - 1).clamp(0, likeliest.shape[-1] - 1))
            weights_BV = weights_BV.masked_fill((weights_BV < last) & (self.top_k > 0), 0.0)
        if self.any_top_p:
            likeliest = weights_BV.sort(dim=-1, descending=True).values
            held = likeliest.cumsum(dim=-1, dtype=torch.float64)
            kept = (held - likeliest < self.top_p * held[:, -1:]).sum(dim=-1, keepdim=True)
            last = likeliest.gather(-1, kept.clamp(1) - 1)
            weights_BV = weights_BV.masked_fill((weights_BV < last) & (self.top_p < 1), 0.0)
        if self.any_min_p:
            least = weights_BV.amax(dim=-1, keepdim=True) * self.min_p
            weights_BV = weights_BV.masked_fill(weights_BV < least, 0.0)
        return weights_BV

    def _draw(self, weights_BV: Tensor, step: int) -> Tensor:
        """Invert the cumulative distribution at the row's own random number."""
        cumulative = weights_BV.cumsum(dim=-1, dtype=torch.float64)
        target = self.uniforms[:, step : step + 1] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(max=weights_BV.shape[-1] - 1)

"""Against forgetting: a penalty on the way that weights have gone from where fine-tuning began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..training.objectives import Objective
from .adapters import has_adapter

Importance = Mapping[str, Tensor]  # of each parameter's numbers, by the parameter's name


class Anchored:
    """An objective plus strength / 2 * sum_i F_i (w_i - start_i)^2 for each counted token, so that the mean loss has it
    once however a step is cut.

    F is one (L2 to the start, Li et al. 2018) or the diagonal of the Fisher information on what shall not be forgotten
    (elastic weight consolidation, Kirkpatrick et al. 2017). `penalty` is logged.

    Raises:
        ConfigError: the model has an adapter, whose start is nothing to return to: switch it off instead.
    """

    def __init__(
        self, objective: Objective[Any], model: nn.Module, strength: float, importance: Importance | None = None
    ) -> None:
        if has_adapter(model):
            raise ConfigError("a penalty on the distance from the start is for full fine-tuning, not for adapters")
        self._objective, self._strength, self._importance = objective, strength, importance
        self._start = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        total, count, extra = self._objective.loss(model, batch)
        penalty = self.penalty(model) * count
        return total + penalty, count, {**extra, "penalty": penalty.detach()}

    def penalty(self, model: nn.Module) -> Tensor:
        """strength / 2 * sum_i F_i (w_i - start_i)^2."""
        parts = []
        for name, parameter in model.named_parameters():
            if name in self._start:
                squares = (parameter - self._start[name]).square()
                parts.append((squares if self._importance is None else squares * self._importance[name]).sum())
        return torch.stack(parts).sum() * (self._strength / 2)


def fisher_diagonal(model: nn.Module, objective: Objective[Any], batches: Iterable[Any]) -> dict[str, Tensor]:
    """The mean over `batches`, best of one example each, of the squared gradient of their summed loss, times one over
    their tokens: an estimate of the Fisher information a token, at the data's own targets ("empirical")."""
    found = {name: torch.zeros_like(one) for name, one in model.named_parameters() if one.requires_grad}
    tokens = 0.0
    for batch in batches:
        model.zero_grad(set_to_none=True)
        loss, count, _ = objective.loss(model, batch)
        loss.backward()
        tokens += float(count)
        for name, parameter in model.named_parameters():
            if name in found and parameter.grad is not None:
                found[name].addcmul_(parameter.grad, parameter.grad)
    model.zero_grad(set_to_none=True)
    return {name: one / max(tokens, 1.0) for name, one in found.items()}

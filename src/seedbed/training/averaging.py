"""Weights that a model is judged by and kept with, where they are not those it trains with: a moving average of them,
and the average that a schedule-free optimizer is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .parallelism import local


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """AdamW without a schedule (Defazio et al. 2024, arXiv 2405.15682): gradients are taken at a point y between what
    AdamW steps, z, and the average x of all z, in which a larger learning rate weighs more. x is the result.

    The parameters hold y; `z` is a state, and x = y + (1 - 1 / beta1) (z - y): `averaged_weights` puts it there.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate, (beta1, beta2) = group["lr"], group["betas"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if not state:
                    state |= {"step": 0, "weights": 0.0, "largest": 0.0}
                    state |= {"z": y.detach().clone(), "second": torch.zeros_like(y)}
                state["step"] += 1
                state["largest"] = max(state["largest"], rate)
                weight = state["largest"] ** 2
                state["weights"] += weight
                share = weight / state["weights"] if weight else 0.0
                state["second"].mul_(beta2).addcmul_(y.grad, y.grad, value=1 - beta2)
                scale = state["second"].sqrt().div_((1 - beta2 ** state["step"]) ** 0.5).add_(group["eps"])
                update = (y.grad / scale).add_(y, alpha=group["weight_decay"])
                y.lerp_(state["z"], share).add_(update, alpha=rate * (beta1 * (1 - share) - 1))
                state["z"].sub_(update, alpha=rate)


class MovingAverage:
    """The exponential moving average of a model's trainable weights, from the first step's on.

    Args:
        decay: share of the average that a step keeps; early steps keep less, (1 + step) / (10 + step), so that the
            weights drawn at first are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._weights = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        now = [local(one.detach()) for name, one in model.named_parameters() if name in self._weights]
        torch._foreach_lerp_([local(one) for one in self._weights.values()], now, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state["steps"])
        for name, one in self._weights.items():
            one.copy_(state["weights"][name])


def averaged_weights(
    model: nn.Module, average: MovingAverage | None, optimizers: Iterable[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Those of `model`'s weights, by name, that differ from the ones to judge it by."""
    if average is not None:
        return average.weights()
    names = {one: name for name, one in model.named_parameters()}
    found = {}
    for optimizer in optimizers:
        if isinstance(optimizer, ScheduleFreeAdamW):
            for group in optimizer.param_groups:
                for y in group["params"]:
                    if optimizer.state[y]:
                        x = y.detach().lerp(optimizer.state[y]["z"], 1 - 1 / group["betas"][0])
                        found[names[y]] = x
    return found


@torch.no_grad()
def take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, one in weights.items():
        parameters[name].copy_(one)


@contextmanager
def borrowed_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """`model` with these weights, and with its own again afterwards."""
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].detach().clone() for name in weights}
    take_weights(model, weights)
    try:
        yield
    finally:
        take_weights(model, own)

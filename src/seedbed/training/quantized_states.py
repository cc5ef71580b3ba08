"""AdamW whose two states take a byte a number (Dettmers et al. 2022, arXiv 2110.02861): blocks with a scale each, and a
dynamic code, whose steps are fine near zero and coarse at the ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..core.errors import ConfigError

_BLOCK = 256  # numbers with one scale
_AT_A_TIME = 4096  # blocks that are float32 at the same time
_SMALLEST = 4096  # numbers of a parameter whose states are worth it; smaller ones stay float32
_EXPONENTS = 7


def dynamic_code(signed: bool) -> Tensor:
    """The 256 values, ascending from -1 or 0 to 1 (the paper, section 2.2, and its published code): a decimal exponent
    whose unary length leaves the other bits for the fraction, taken at the middles of equal steps from 0.1 to 1."""
    return torch.tensor(_dynamic_code(signed))


@functools.cache
def _dynamic_code(signed: bool) -> np.ndarray:
    # No tensor is kept: where memory is foretold it would be a fake one.
    values = [0.0, 1.0]
    for exponent in range(_EXPONENTS):
        steps = 2**exponent * (1 if signed else 2)
        bounds = np.linspace(0.1, 1, steps + 1)
        means = (bounds[:-1] + bounds[1:]) / 2 * 10.0 ** (exponent - _EXPONENTS + 1)
        values += means.tolist() + ((-means).tolist() if signed else [])
    values += [0.0] * (256 - len(values))
    return np.array(sorted(values), dtype=np.float32)


def quantize(numbers: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    """(blocks, _BLOCK) numbers as uint8 places in `code` and a float32 scale for each block, its largest magnitude."""
    scales = numbers.abs().amax(dim=1, keepdim=True)
    normed = numbers / scales.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.bucketize(normed, (code[1:] + code[:-1]) / 2).to(torch.uint8), scales


def dequantize(places: Tensor, scales: Tensor, code: Tensor) -> Tensor:
    return code[places.int()] * scales


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) with both means of gradients quantised between steps.

    A quarter of AdamW's memory. States are float32 a few blocks at a time, so that no float32 copy of one exists whole.
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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if isinstance(parameter, DTensor):
            raise ConfigError("8-bit states are not spread over processes", where="optimizer", hint="Use adamw.")
        state = self.state[parameter]
        if not state:
            state |= _empty_state(parameter)
        state["step"] += 1
        step, rate, (beta1, beta2) = state["step"], group["lr"], group["betas"]
        parameter.mul_(1 - rate * group["weight_decay"])
        flat, slopes = parameter.view(-1), gradient.reshape(-1)
        width = _BLOCK * _AT_A_TIME
        for number, start in enumerate(range(0, flat.numel(), width)):
            part, slope = flat[start : start + width], slopes[start : start + width]
            blocks = slice(number * _AT_A_TIME, (number + 1) * _AT_A_TIME)
            first = _read(state, "first", blocks, part.numel()).lerp_(slope, 1 - beta1)
            second = _read(state, "second", blocks, part.numel()).mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
            scale = second.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
            part.addcdiv_(first, scale, value=-rate / (1 - beta1**step))
            _write(state, "first", blocks, first)
            _write(state, "second", blocks, second)


def _empty_state(parameter: Tensor) -> dict[str, Any]:
    state: dict[str, Any] = {"step": 0}
    blocks = -(-parameter.numel() // _BLOCK)
    for name in ("first", "second"):
        if parameter.numel() < _SMALLEST:
            state[name] = torch.zeros(parameter.numel(), device=parameter.device)
            continue
        zero = int(np.searchsorted(_dynamic_code(signed=name == "first"), 0.0))
        state[name] = torch.full((blocks, _BLOCK), zero, dtype=torch.uint8, device=parameter.device)
        state[f"{name}_scales"] = torch.zeros(blocks, 1, device=parameter.device)
    return state


def _code(name: str) -> Tensor:
    return dynamic_code(signed=name == "first")  # a mean of squares has no sign


def _read(state: dict[str, Tensor], name: str, blocks: slice, count: int) -> Tensor:
    """Float32 numbers (count,): the very state where it is small, else a copy."""
    if state[name].dtype != torch.uint8:
        return state[name]
    code = _code(name).to(state[name].device)
    return dequantize(state[name][blocks], state[f"{name}_scales"][blocks], code).view(-1)[:count]


def _write(state: dict[str, Tensor], name: str, blocks: slice, numbers: Tensor) -> None:
    if state[name].dtype != torch.uint8:
        return
    padded = nn.functional.pad(numbers, (0, -numbers.numel() % _BLOCK)).view(-1, _BLOCK)
    state[name][blocks], state[f"{name}_scales"][blocks] = quantize(padded, _code(name).to(numbers.device))

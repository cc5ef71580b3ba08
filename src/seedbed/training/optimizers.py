"""Optimizers: AdamW in three kinds, and Muon for the matrices of the blocks with AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError
from .averaging import ScheduleFreeAdamW
from .execution import Precision
from .parallelism import local, part_of, whole
from .quantized_states import AdamW8bit

OptimizerName = Literal["muon", "adamw", "adamw8bit", "schedulefree"]

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steepest at zero, so that small directions grow fast
_QUINTIC_STEPS = 5
_EPSILON = 1e-10  # AdamW's
_ADAMW_RMS = 0.2  # the usual size of an AdamW update's entries (Liu et al. 2025, arXiv 2502.16982, section 2.2)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly: singular values come out between about 0.7 and 1.2.

    A Newton-Schulz iteration with a quintic polynomial, for (..., rows, columns), with products in `dtype`.
    """
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.flatten(0, -3) if matrices.ndim > 2 else matrices[None]
    x = x.mT if tall else x
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    a, b, c = _QUINTIC
    for _ in range(_QUINTIC_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), for (rows, columns) parameters.

    Updates are scaled to the size that AdamW's usually have, so one learning rate and weight decay serve both (Liu et
    al. 2025). Matrices of one shape are orthogonalised together: many small products would be slow one by one.

    Args:
        dtype: of the orthogonalisation's products, which bear bfloat16 well (Jordan et al. 2024).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                # Of a matrix that is spread over processes each orthogonalises the whole and keeps its part.
                momenta = [whole(self._momentum(one, group["momentum"])) for one in parameters]
                updates = orthogonalize(torch.stack(momenta), self._dtype).unbind()
                mine = [local(one) for one in parameters]
                scale = group["lr"] * _ADAMW_RMS * max(shape) ** 0.5
                torch._foreach_mul_(mine, 1 - group["lr"] * group["weight_decay"])
                parts = [part_of(update, one) for update, one in zip(updates, parameters, strict=True)]
                torch._foreach_add_(mine, parts, alpha=-scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)  # Nesterov


def build_optimizers(
    model: nn.Module,
    name: OptimizerName,
    *,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float,
    embedding_factor: float = 1.0,
    precision: Precision = "float32",
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's trainable parameters; the trainer sets their learning rates.

    Muon takes the matrices inside the model's blocks (its `nn.ModuleList`s); embeddings, output head, gains and biases
    go to AdamW. Weight decay falls on matrices alone. Each group's `factor` multiplies the learning rate: beside Muon
    AdamW's is `embedding_factor`, as an embedding's rows are seldom touched and bear larger steps.

    Raises:
        ConfigError: there is nothing to train, or no matrix for Muon.
    """
    trainable = {one: key for key, one in model.named_parameters() if one.requires_grad}
    if not trainable:
        raise ConfigError("the model has no trainable parameter")
    hidden: list[nn.Parameter] = []
    if name == "muon":
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        inside = {id(one) for blocks in lists for one in blocks.parameters() if one.ndim == 2}
        hidden = [one for one in trainable if id(one) in inside]
        if not hidden:
            raise ConfigError("Muon found no matrix inside the model's blocks", hint="Use optimizer: adamw.")
    taken = {id(one) for one in hidden}
    rest = [one for one in trainable if id(one) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        groups: list[dict[str, Any]] = [{"params": hidden, "factor": 1.0}]
        half = precision == "bfloat16" or hidden[0].is_cuda  # on a GPU nothing speaks for float32
        dtype = torch.bfloat16 if half else torch.float32
        optimizers.append(Muon(groups, momentum=momentum, weight_decay=weight_decay, dtype=dtype))
    factor = embedding_factor if hidden else 1.0
    groups = [
        {"params": [one for one in rest if one.ndim >= 2], "weight_decay": weight_decay, "factor": factor},
        {"params": [one for one in rest if one.ndim < 2], "weight_decay": 0.0, "factor": factor},
    ]
    groups = [group for group in groups if group["params"]]
    if groups and name == "adamw8bit":
        optimizers.append(AdamW8bit(groups, betas=betas, eps=_EPSILON))
    elif groups and name == "schedulefree":
        optimizers.append(ScheduleFreeAdamW(groups, betas=betas, eps=_EPSILON))
    elif groups:
        optimizers.append(torch.optim.AdamW(groups, betas=betas, eps=_EPSILON, fused=True))
    return optimizers

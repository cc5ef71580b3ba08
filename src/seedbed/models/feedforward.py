"""Feed-forward sublayers, a mixture of them, and the linear layer of all sublayers.

B batch, T tokens, C model width, I inner width, N tokens of all rows, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .config import GATED, ModelConfig


class Linear(nn.Linear):
    """`nn.Linear` without a draw from the global random state: the model that holds it initialises it."""

    def reset_parameters(self) -> None:
        """Left to `initialise`."""


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": _gelu_tanh,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": F.relu,
    "relu2": _relu_squared,
}


class FeedForward(nn.Module):
    """down(activation(up(x))): GELU (Hendrycks and Gimpel 2016), ReLU, ReLU² (So et al. 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.feedforward_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.feedforward_bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.up_proj(x_BTC)))


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)): SwiGLU and GeGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.feedforward_bias)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.feedforward_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.feedforward_bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate_BTI, up_BTI = self.gate_proj(x_BTC), self.up_proj(x_BTC)
        if self.activation is not F.silu or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.down_proj(self.activation(gate_BTI) * up_BTI)
        if _is_plain(self.down_proj):
            down_BTC: Tensor = _SwiGLUDown.apply(gate_BTI, up_BTI, self.down_proj.weight)
            return down_BTC
        gated_BTI: Tensor = _SwiGLU.apply(gate_BTI, up_BTI)
        return self.down_proj(gated_BTI)


def _is_plain(layer: nn.Module) -> bool:
    """Whether `layer` is its weight's product and no more: no adapter, no hook of a parallel layout, no bias."""
    return (
        type(layer) is Linear and layer.bias is None and type(layer.weight) is nn.Parameter
        and not (layer._forward_hooks or layer._forward_pre_hooks)
    )  # fmt: skip


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up, whose silu is computed again in the backward pass: kept, it would be a third of what a gated
    feed-forward keeps of its inner width, beside gate and up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


class _SwiGLUDown(torch.autograd.Function):
    """(silu(gate) * up) @ weight.T, which keeps gate and up alone: neither what is multiplied, another third, nor a
    rounded copy of the weight."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        return F.linear(F.silu(gate).mul_(up), weight.to(gate.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        gate, up, weight = ctx.saved_tensors
        flat, silu, weight_gradient = gradient.flatten(0, -2), F.silu(gate), None
        if ctx.needs_input_grad[2]:
            weight_gradient = (flat.T @ (silu * up).flatten(0, -2)).to(weight.dtype)
        slopes = (flat @ weight.to(flat.dtype)).view(gate.shape)
        up_gradient = silu.mul_(slopes)
        return torch.ops.aten.silu_backward(slopes.mul_(up), gate), up_gradient, weight_gradient


class MixtureOfExperts(nn.Module):
    """A token goes to the `experts_per_token` experts that the router scores highest, weighted by the softmax over
    those (Mixtral, Jiang et al. 2024, section 2.1).

    After a forward pass `balance_loss` holds the load-balancing loss of that pass (Fedus et al. 2022, equation 4: E
    times the sum over experts of the share of choices times the mean router probability; 1 where all are equal), with
    its graph: an objective adds it. `load` (E,) is the share of choices that went to each expert.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chosen = config.experts_per_token
        self.router = Linear(config.hidden_size, config.experts, bias=False)
        self.experts = nn.ModuleList(feedforward(config) for _ in range(config.experts))
        self.balance_loss: Tensor | None = None
        self.load: Tensor | None = None

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_NC = x_BTC.flatten(0, -2)
        probabilities_NE = self.router(x_NC).softmax(dim=-1, dtype=torch.float32)
        weights_NK, experts_NK = probabilities_NE.topk(self.chosen, dim=-1)
        weights_NK = (weights_NK / weights_NK.sum(dim=-1, keepdim=True)).to(x_NC.dtype)
        mixed_NC = self.mix(x_NC, weights_NK, experts_NK)
        share_E = F.one_hot(experts_NK, len(self.experts)).float().mean(dim=(0, 1))
        self.load = share_E
        self.balance_loss = len(self.experts) * (share_E * probabilities_NE.mean(dim=0)).sum()
        return mixed_NC.view_as(x_BTC)

    def mix(self, x_NC: Tensor, weights_NK: Tensor, experts_NK: Tensor) -> Tensor:
        """(N, C): of each token the weighted sum of its experts' outputs, as far as the experts are here."""
        mixed_NC = torch.zeros_like(x_NC)
        for number, expert in enumerate(self.experts):
            tokens, places = (experts_NK == number).nonzero(as_tuple=True)
            if len(tokens) and not isinstance(expert, nn.Identity):
                mixed_NC.index_add_(0, tokens, expert(x_NC[tokens]) * weights_NK[tokens, places, None])
        return mixed_NC


def feedforward(config: ModelConfig) -> FeedForward | GatedFeedForward:
    """One feed-forward of the config's kind."""
    return GatedFeedForward(config) if config.activation in GATED else FeedForward(config)


def balance_loss(model: nn.Module) -> Tensor | None:
    """The mean load-balancing loss of a model's mixtures in its last forward pass; None where it has none."""
    losses = [m.balance_loss for m in model.modules() if isinstance(m, MixtureOfExperts) and m.balance_loss is not None]
    return torch.stack(losses).mean() if losses else None

"""Feed-forward sublayers, and the linear layer of all sublayers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """`nn.Linear` without a draw from the global random state: the model that holds it initialises it."""

    def reset_parameters(self) -> None:
        """Left to `initialise`."""


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, intermediate, bias=False)
        self.up_proj = Linear(width, intermediate, bias=False)
        self.down_proj = Linear(intermediate, width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTC)) * self.up_proj(x_BTC))


class GELU(nn.Module):
    """down(gelu(up(x))) with biases and the exact GELU, as in BERT."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.up_proj = Linear(width, intermediate)
        self.down_proj = Linear(intermediate, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x_BTC)))

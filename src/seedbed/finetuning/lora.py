"""A linear layer with low-rank adapters: LoRA (Hu et al. 2021), DoRA (Liu et al. 2024), PiSSA (Meng et al. 2024).

N tokens, I inputs and O outputs of the layer, R ranks of all its active adapters together.

With W (O, I) frozen, an adapter is A (R, I) and B (O, R), B already scaled, and with DoRA a magnitude m (O,): the layer
computes x (diag(g) W + B A)^T, where g is one, and with DoRA the magnitudes over the norms of the rows of W + B A, by
which B is multiplied too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..core.config import Config
from ..core.errors import ConfigError
from ..models.feedforward import Linear
from .quantization import NF4Linear
from .targets import Targets

Base = Linear | NF4Linear


class LoRAConfig(Config):
    """Which layers get an adapter, and how large it is.

    targets: "all-linear" (every linear layer but the head), a regular expression that must match a whole module path,
        or names, each a whole path or its end ("q_proj"). Paths are ours or Hugging Face's.
    rank_stabilized: the update is scaled by alpha / sqrt(rank) (Kalajdzievski 2023) and not by alpha / rank.
    magnitudes: DoRA: the length of each row of the weight is learned apart from its direction.
    initialization: "zero": B is zero. "pissa": A and B begin as the weight's largest singular directions, and what they
        make at first is taken from the weight, so that nothing changes at first either.
    """

    rank: Annotated[int, Field(ge=1, le=1 << 14)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Targets = "all-linear"
    rank_stabilized: bool = False
    magnitudes: bool = False
    initialization: Literal["zero", "pissa"] = "zero"

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


class LowRank(nn.Module):
    """One adapter of one layer. Its numbers are float32 on a base of half precision: updates are small."""

    start_A: Tensor | None
    start_B: Tensor | None

    def __init__(self, base: Base, config: LoRAConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        weight = base.weight.detach()
        dtype = torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
        first_A: Tensor
        first_B: Tensor = weight.new_zeros(base.out_features, config.rank, dtype=dtype)
        if config.initialization == "pissa":
            first_A, first_B = _principal(weight, config)
        else:
            # Kaiming's uniform with a = sqrt(5), as PEFT draws it.
            bound = base.in_features**-0.5
            first_A = torch.empty(config.rank, base.in_features)
            nn.init.uniform_(first_A, -bound, bound, generator=generator)
        self.lora_A = nn.Parameter(first_A.to(first_B))
        self.lora_B = nn.Parameter(first_B)
        pissa = config.initialization == "pissa"
        self.register_buffer("start_A", first_A.clone() if pissa else None)
        self.register_buffer("start_B", first_B.clone() if pissa else None)
        norms = weight.float().norm(dim=1).to(dtype) if config.magnitudes else None
        self.magnitude = None if norms is None else nn.Parameter(norms)

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(O, R) with the scale, and (R, I)."""
        scale = self.config.scale
        factor_A: Tensor = self.lora_A
        factor_B = self.lora_B * scale
        if self.start_A is not None and self.start_B is not None:
            factor_B = torch.cat((factor_B, self.start_B * -scale), dim=1)
            factor_A = torch.cat((factor_A, self.start_A))
        return factor_B.to(dtype), factor_A.to(dtype)


class LoRALinear(nn.Linear):
    """A linear layer with adapters, any of which may be active at a time; it holds the layer that it replaces."""

    def __init__(self, base: Base) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.base, self.adapters = base, nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.kept: Tensor | None = None  # the effective weight, where it was merged to be taken out again
        self._squares: tuple[int, Tensor] | None = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight that the layer computes with now, (O, I), with gradients to the adapters."""
        if not (self.enabled and self.active):
            return self.base.weight
        if self.kept is not None:
            return self.kept
        gains, factor_B, factor_A = self._update()
        weight = self.base.weight
        return (weight if gains is None else gains[:, None] * weight) + factor_B @ factor_A

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        return self.base.bias

    @property
    def in_use(self) -> tuple[object, ...]:
        """What the layer computes with beside its tensors' values: a recorded step holds as long as it is equal."""
        return self.enabled, self.active, None if self.kept is None else self.kept.data_ptr()

    def adapter(self, name: str) -> LowRank:
        found = self.adapters[name]
        assert isinstance(found, LowRank)
        return found

    def forward(self, input: Tensor) -> Tensor:
        if not (self.enabled and self.active):
            output: Tensor = self.base(input)
            return output
        if self.kept is not None:
            return F.linear(input, self.kept, self.bias)
        if torch.is_autocast_enabled(input.device.type):
            input = input.to(torch.get_autocast_dtype(input.device.type))
        if torch.compiler.is_compiling():
            return self._plain(input)
        dropping = self.training and any(self.adapter(name).config.dropout for name in self.active)
        if dropping:
            return self._with_dropout(input)
        adapted: Tensor = _Adapted.apply(input, self.base, *self._update(input.dtype))
        return adapted

    def _plain(self, input: Tensor) -> Tensor:
        """The definition, for the compiler, which finds by itself what to keep and what to compute again."""
        gains, parts = self._parts(input.dtype)
        output = F.linear(input, self.base.weight.to(input.dtype))
        output = output if gains is None else output * gains
        for name, (factor_B, factor_A) in zip(self.active, parts, strict=True):
            dropped = F.dropout(input, self.adapter(name).config.dropout, self.training)
            output = output + F.linear(F.linear(dropped, factor_A), factor_B)
        return output if self.bias is None else output + self.bias

    def _with_dropout(self, input: Tensor) -> Tensor:
        """Dropout falls on what goes into A; the base sees its input whole."""
        gains, parts = self._parts(input.dtype)
        none = input.new_zeros(self.out_features, 0), input.new_zeros(0, self.in_features)
        output: Tensor = _Adapted.apply(input, self.base, gains, *none)
        for name, (factor_B, factor_A) in zip(self.active, parts, strict=True):
            dropped = F.dropout(input, self.adapter(name).config.dropout)
            output = output + F.linear(F.linear(dropped, factor_A), factor_B)
        return output

    def _update(self, dtype: torch.dtype | None = None) -> tuple[Tensor | None, Tensor, Tensor]:
        """g (O,) or None for one, B (O, R) and A (R, I) of the active adapters together."""
        gains, parts = self._parts(dtype or self.base.weight.dtype)
        if len(parts) == 1:
            return gains, *parts[0]
        factors_B, factors_A = zip(*parts, strict=True)
        return gains, torch.cat(factors_B, dim=1), torch.cat(factors_A)

    def _parts(self, dtype: torch.dtype) -> tuple[Tensor | None, list[tuple[Tensor, Tensor]]]:
        gains, parts = None, []
        for name in self.active:
            adapter = self.adapter(name)
            factor_B, factor_A = adapter.factors(dtype)
            if adapter.magnitude is not None:
                gain = (adapter.magnitude / self._norms(factor_B, factor_A)).to(dtype)
                factor_B = factor_B * gain[:, None]
                gains = gain if gains is None else gains + gain - 1
            parts.append((factor_B, factor_A))
        return gains, parts

    @torch.no_grad()
    def _norms(self, factor_B: Tensor, factor_A: Tensor) -> Tensor:
        """Norms of the rows of W + B A (O,), as a constant (DoRA, section 4.3), without making the sum:
        |w + b A|^2 = |w|^2 + 2 <w A^T, b> + <b A A^T, b>."""
        weight, factor_B, factor_A = self.base.weight, factor_B.float(), factor_A.float()
        across = weight.float() @ factor_A.T
        changed = (across.mul_(2).addmm_(factor_B, factor_A @ factor_A.T) * factor_B).sum(dim=1)
        return (self._row_squares(weight) + changed).clamp_(min=0).sqrt_()

    def _row_squares(self, weight: Tensor) -> Tensor:
        """|w|^2 of each row, kept as long as the weight is not written to."""
        if torch.compiler.is_compiling():
            return weight.float().square().sum(dim=1)
        version = -1 if isinstance(self.base, NF4Linear) else weight._version
        if self._squares is None or self._squares[0] != version or self._squares[1].device != weight.device:
            self._squares = version, weight.float().square().sum(dim=1)
        return self._squares[1]

    @torch.no_grad()
    def merged(self, dequantize: bool = False) -> Linear:
        """The plain layer that computes the same; the weight is changed in place, or new where it was quantised."""
        if isinstance(self.base, NF4Linear) and not dequantize:
            raise ConfigError(
                "merging into four bits would round the adapter away",
                hint="Merge with dequantize=True: the result has full weights.",
            )
        plain = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        effective = self.weight if self.active else self.base.weight
        if isinstance(self.base, NF4Linear):
            plain.weight = nn.Parameter(effective)
        else:
            self.base.weight.copy_(effective)
            plain.weight = self.base.weight
        plain.bias = self.base.bias
        return plain


class _Adapted(torch.autograd.Function):
    """x (diag(g) W + B A)^T + bias, with gradients for x, g, B and A.

    Many tokens go through the sum of the weights, made for the moment in both passes: it takes R I O products where the
    way through A and B takes N R (I + O), and a quantised weight has to be unpacked anyway. Few tokens go through A
    and B. Of the forward pass only x is kept, and with DoRA the output, which the layers above keep too.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, base: Base, gains: Tensor | None, factor_B: Tensor, factor_A: Tensor
    ) -> Tensor:
        x_NI = input.reshape(-1, input.shape[-1])
        with torch.autocast(input.device.type, enabled=False):  # rounded already, and the sum must not be
            output = _product(x_NI, base, gains, factor_B, factor_A)
        ctx.base = base
        ctx.save_for_backward(x_NI, gains, factor_B, factor_A, output if ctx.needs_input_grad[2] else None)
        return output.view(*input.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None, Tensor | None]:
        x_NI, gains, factor_B, factor_A, output = ctx.saved_tensors
        base: Base = ctx.base
        gradient_NO = gradient.reshape(-1, gradient.shape[-1])
        through_NR = gradient_NO @ factor_B
        gradient_B = gradient_NO.T @ (x_NI @ factor_A.T)
        gradient_A = through_NR.T @ x_NI
        gradient_gains = None
        if output is not None:
            gradient_gains = _gradient_of_gains(base, x_NI, gradient_NO, gains, factor_B, gradient_B, output)
        gradient_x = None
        if ctx.needs_input_grad[0]:
            if _pays(x_NI, base):
                gradient_x = gradient_NO @ _effective(base, gains, factor_B, factor_A)
            else:
                scaled = gradient_NO if gains is None else gradient_NO * gains
                gradient_x = (scaled @ base.weight.to(x_NI.dtype)).addmm_(through_NR, factor_A)
            gradient_x = gradient_x.view(*gradient.shape[:-1], -1)
        return gradient_x, None, gradient_gains, gradient_B, gradient_A


def _product(x_NI: Tensor, base: Base, gains: Tensor | None, factor_B: Tensor, factor_A: Tensor) -> Tensor:
    if _pays(x_NI, base):
        return F.linear(x_NI, _effective(base, gains, factor_B, factor_A), base.bias)
    output = x_NI @ base.weight.to(x_NI.dtype).T
    output = output if gains is None else output.mul_(gains)
    output.addmm_(x_NI @ factor_A.T, factor_B.T)
    return output if base.bias is None else output.add_(base.bias)


def _gradient_of_gains(
    base: Base, x_NI: Tensor, gradient_NO: Tensor, gains: Tensor, factor_B: Tensor, gradient_B: Tensor, output: Tensor
) -> Tensor:
    """sum_n gradient[n] * (x W^T)[n]: x W^T is (output - x A^T B^T) / g, unless some g is too small to divide by."""
    if gains.abs().amin() < 1e-2 * gains.abs().amax():
        return (gradient_NO * (x_NI @ base.weight.to(x_NI.dtype).T)).sum(dim=0)
    plain = output if base.bias is None else output - base.bias
    return ((gradient_NO * plain).sum(dim=0) - (gradient_B * factor_B).sum(dim=1)) / gains


def _pays(x_NI: Tensor, base: Base) -> bool:
    """Whether the sum of the weights is worth being made. In half precision it would round the adapter away."""
    inputs, outputs = base.in_features, base.out_features
    return x_NI.dtype in (torch.float32, torch.float64) and len(x_NI) * (inputs + outputs) >= inputs * outputs


def _effective(base: Base, gains: Tensor | None, factor_B: Tensor, factor_A: Tensor) -> Tensor:
    """diag(g) W + B A, new."""
    weight, fresh = base.weight, isinstance(base, NF4Linear)
    if gains is None:
        return weight.addmm_(factor_B, factor_A) if fresh else torch.addmm(weight, factor_B, factor_A)
    scaled = weight.mul_(gains[:, None]) if fresh else weight * gains[:, None]
    return scaled.addmm_(factor_B, factor_A)


def _principal(weight: Tensor, config: LoRAConfig) -> tuple[Tensor, Tensor]:
    """A and B of the largest singular values: scale * B A is the weight's best approximation of that rank."""
    if config.rank > min(weight.shape):
        raise ConfigError(f"rank {config.rank} is above a layer's of {min(weight.shape)}", where="rank")
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    roots = (values[: config.rank] / config.scale).sqrt()
    return roots[:, None] * right[: config.rank], left[:, : config.rank] * roots

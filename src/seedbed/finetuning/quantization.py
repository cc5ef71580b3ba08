"""Weights in four bits: NF4 with double quantisation (Dettmers et al. 2023, section 3), as bitsandbytes stores them.

Every 64 weights share a scale, their largest magnitude; a weight over its scale is one of 16 values, the quantiles of a
normal distribution. The scales, less their mean, are rounded again, 256 to a scale, to a table of 256 values whose
steps grow with the magnitude: 4.127 bits a weight in all.

I inputs and O outputs of a layer.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .. import _native
from ..core.errors import ConfigError, DataError
from ..models.feedforward import Linear
from ..models.huggingface import module_paths
from .targets import Targets, match

ModuleT = TypeVar("ModuleT", bound=nn.Module)

BLOCK, NESTED_BLOCK = 64, 256
_FEW = 48  # rows up to which reading the codes once a few rows is faster than unpacking them
_TINY = 1e-38

VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@functools.cache
def scale_table() -> Tensor:
    """The 256 values that scales are rounded to, float32: 1, 0 and, for each of seven powers of ten below one, the
    middles of ever more even steps, of both signs (Dettmers 2015)."""
    values = [0.0, 1.0]
    for power in range(7):
        edges = torch.linspace(0.1, 1, 2**power + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        values += (10 ** (power - 6) * middles).tolist() + (-(10 ** (power - 6)) * middles).tolist()
    return torch.tensor(sorted(values))


@functools.cache
def _nearest_scales() -> Tensor:
    """The code of each of 65,536 even steps from -1 to 1, uint8."""
    steps, table = torch.arange(65_536).float() / 65_535 * 2 - 1, scale_table()
    return torch.bucketize(steps, (table[:-1] + table[1:]) / 2).to(torch.uint8)


@dataclass(frozen=True)
class NF4:
    """A tensor in NF4.

    codes: uint8 (half of the weights, 1), the first of two in the upper bits.
    scales: of 64 weights each: uint8 codes, or float32 where they are not quantised again.
    nested: float32, of 256 scales each; offset: float32 (), the mean of the scales. Both None without double
        quantisation.
    """

    codes: Tensor
    scales: Tensor
    nested: Tensor | None
    offset: Tensor | None
    shape: torch.Size
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        tensors = (self.codes, self.scales, self.nested, self.offset)
        return sum(one.nbytes for one in tensors if one is not None)

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights again, rounded, in `dtype` or in the dtype that they came in."""
        dtype = dtype or self.dtype
        if self.codes.device.type != "cpu":
            tables = _tables(self.codes.device)
            flat: Tensor = _unpacking()(self.codes.view(-1), self.scales, self.nested, self.offset, *tables, dtype)
            return flat[: self.shape.numel()].view(self.shape)
        out = torch.empty(self.shape, dtype=torch.float32)
        threads = torch.get_num_threads()
        _native.nf4_unpack(self.codes.view(-1).numpy(), self._native_scales, out.view(-1).numpy(), threads)
        return out.to(dtype)

    def multiply(self, x: Tensor) -> Tensor:
        """x (N, I), float32 on the CPU, times the transposed weight (O, I), I a multiple of 64, unpacking nothing."""
        out = torch.empty(len(x), self.shape[0])
        threads = torch.get_num_threads()
        codes = self.codes.view(-1).numpy()
        _native.nf4_multiply(x.detach().contiguous().numpy(), codes, self._native_scales, out.numpy(), threads)
        return out

    @functools.cached_property
    def _native_scales(self) -> Any:
        if self.nested is None or self.offset is None:
            return _native.Nf4Scales(self.scales.numpy())
        table, nested = scale_table().numpy(), self.nested.numpy()
        return _native.Nf4Scales(self.scales.numpy(), table, nested, float(self.offset))


def unpack(
    codes: Tensor,
    scales: Tensor,
    nested: Tensor | None,
    offset: Tensor | None,
    values: Tensor,
    table: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """The weights in a row, two for each of `codes`: what native/quantization does, in PyTorch. Compiled it is a single
    pass for devices; it is that one's twin in tests."""
    if nested is not None and offset is not None:
        each = torch.arange(len(scales), device=scales.device) // NESTED_BLOCK
        scales = table[scales.int()] * nested[each] + offset
    pairs = torch.stack((codes >> 4, codes & 15), dim=1).flatten().int()
    each = torch.arange(len(pairs), device=codes.device) // BLOCK
    return (values[pairs] * scales[each]).to(dtype)


@functools.cache
def _unpacking() -> Callable[..., Tensor]:
    return torch.compile(unpack, dynamic=True)


@functools.cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(VALUES, device=device), scale_table().to(device)


@overload
def quantize_nf4(what: Tensor, *, double: bool = True) -> NF4: ...
@overload
def quantize_nf4(what: nn.Module, *, double: bool = True, targets: Targets = "all-linear") -> nn.Module: ...
def quantize_nf4(what: Tensor | nn.Module, *, double: bool = True, targets: Targets = "all-linear") -> NF4 | nn.Module:
    """Round a tensor to NF4, or the linear layers of a model, in place.

    Args:
        what: a float tensor of any shape, or a model; its quantised layers no longer train.
        double: quantise the scales too.
        targets: which layers of a model, as for adapters; the head is none of them unless named.

    Raises:
        DataError: a weight is not finite. ConfigError: a target matches no layer.
    """
    if isinstance(what, Tensor):
        return _quantize(what.detach(), double)
    for name in match(module_paths(what), targets):
        layer = what.get_submodule(name)
        if type(layer) is not Linear:
            raise ConfigError(f"'{name}' is a {type(layer).__name__}, not a plain layer", hint="Quantise first.")
        what.set_submodule(name, NF4Linear.of(layer, double))
    return what


def _quantize(values: Tensor, double: bool) -> NF4:
    flat = values.reshape(-1).float().contiguous()
    if not flat.isfinite().all():
        raise DataError("a weight that is no finite number cannot be quantised")
    codes = torch.empty((flat.numel() + 1) // 2, dtype=torch.uint8, device=flat.device)
    scales = torch.empty(-(-flat.numel() // BLOCK), device=flat.device)
    if flat.device.type == "cpu":
        _native.nf4_pack(flat.numpy(), codes.numpy(), scales.numpy(), torch.get_num_threads())
    else:
        _pack(flat, codes, scales)
    if not double:
        return NF4(codes[:, None], scales, None, None, values.shape, values.dtype)
    offset = scales.mean()
    again, nested = _quantize_scales(scales - offset)
    return NF4(codes[:, None], again, nested, offset, values.shape, values.dtype)


def _pack(flat: Tensor, codes: Tensor, scales: Tensor) -> None:
    """What native/quantization does, in PyTorch: for devices, and as its twin in tests."""
    whole = flat.numel() // BLOCK * BLOCK
    blocks, rest = flat[:whole].view(-1, BLOCK), flat[whole:]
    scales[: len(blocks)] = blocks.abs().amax(dim=1)
    scaled = blocks * (1.0 / scales[: len(blocks)].clamp(min=_TINY))[:, None]
    if len(rest):
        scales[-1] = rest.abs().amax().clamp(min=_TINY)
        scaled = torch.cat((scaled.flatten(), rest / scales[-1]))
    values = torch.tensor(VALUES, device=flat.device)
    scaled = F.pad(scaled.flatten().clamp(-1, 1), (0, flat.numel() % 2))
    found = torch.bucketize(scaled, (values[:-1] + values[1:]) / 2, out_int32=True).to(torch.uint8)
    codes.copy_((found[::2] << 4) | found[1::2])


def _quantize_scales(values: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 codes and the largest magnitude of every 256. Codes are looked up over 65,536 even steps, as bitsandbytes
    looks them up on a CPU."""
    count = values.numel()
    blocks = F.pad(values, (0, -count % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    nested = blocks.abs().amax(dim=1)
    scaled = (blocks * (1.0 / nested)[:, None]).clamp(-1, 1)
    steps = ((scaled + 1) * 0.5 * 65_535 + 0.5).nan_to_num(0.0).int()
    codes = _nearest_scales().to(values.device)[steps]
    codes[nested == 0] = 0
    return codes.flatten()[:count].contiguous(), nested


class NF4Linear(nn.Linear):
    """A linear layer whose weight lies in NF4 and does not train. `weight` unpacks it anew each time."""

    scales: Tensor
    codes: Tensor
    nested: Tensor | None
    offset: Tensor | None
    values: Tensor  # what codes stand for, and codes of scales
    table: Tensor

    def __init__(self, inputs: int, outputs: int, quantized: NF4, bias: nn.Parameter | None, source: str = "") -> None:
        nn.Module.__init__(self)
        if quantized.shape != (outputs, inputs):
            raise ConfigError(f"a weight of {tuple(quantized.shape)} in a layer of {(outputs, inputs)}")
        self.in_features, self.out_features, self.dtype = inputs, outputs, quantized.dtype
        self.source = source  # digest of the weight that was quantised, by which adapters know their base
        for name in ("codes", "scales", "nested", "offset"):
            self.register_buffer(name, getattr(quantized, name))
        for name, table in zip(("values", "table"), _tables(quantized.codes.device), strict=True):
            self.register_buffer(name, table, persistent=False)
        self.register_parameter("bias", bias)
        self._known: NF4 | None = None

    @staticmethod
    def of(layer: nn.Linear, double: bool = True) -> NF4Linear:
        weight = layer.weight.detach()
        quantized = quantize_nf4(weight, double=double)
        return NF4Linear(layer.in_features, layer.out_features, quantized, layer.bias, digest(weight))

    @property
    def quantized(self) -> NF4:
        """The buffers, wherever they lie now."""
        known = self._known
        if known is None or known.codes is not self.codes:
            shape = torch.Size((self.out_features, self.in_features))
            known = NF4(self.codes, self.scales, self.nested, self.offset, shape, self.dtype)
            self._known = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        """Without what native code keeps of the buffers, for copies."""
        return self.__dict__ | {"_known": None}

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self._unpacked(self.dtype) if torch.compiler.is_compiling() else self.quantized.dequantize()

    def _unpacked(self, dtype: torch.dtype) -> Tensor:
        """The weight in plain steps, for the compiler."""
        parts = self.codes.view(-1), self.scales, self.nested, self.offset
        flat = unpack(*parts, self.values, self.table, dtype)
        return flat[: self.out_features * self.in_features].view(self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return F.linear(input, self._unpacked(input.dtype), self.bias)
        if torch.is_grad_enabled() and input.requires_grad:
            output: Tensor = _FrozenProduct.apply(input, self)
        else:
            output = self._product(input)
        return output if self.bias is None else output + self.bias

    def _product(self, input: Tensor) -> Tensor:
        rows = input.numel() // self.in_features
        few = rows <= _FEW and self.in_features % BLOCK == 0
        if few and input.device.type == "cpu" and input.dtype == torch.float32:
            return self.quantized.multiply(input.reshape(rows, -1)).view(*input.shape[:-1], -1)
        return F.linear(input, self.quantized.dequantize(input.dtype))


def dequantized(model: ModuleT) -> ModuleT:
    """The model with its layers in four bits unpacked to ordinary ones, in place."""
    for path, layer in [*model.named_modules()]:
        if isinstance(layer, NF4Linear):
            plain = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
            plain.weight, plain.bias = nn.Parameter(layer.weight), layer.bias
            model.set_submodule(path, plain)
    return model


class _FrozenProduct(torch.autograd.Function):
    """x W^T that keeps neither x nor the unpacked W for the gradient."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return layer._product(input)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.quantized.dequantize(gradient.dtype), None


def digest(weight: Tensor) -> str:
    """sha256 of a tensor's shape and numbers."""
    found = hashlib.sha256(str((tuple(weight.shape), str(weight.dtype))).encode())
    found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

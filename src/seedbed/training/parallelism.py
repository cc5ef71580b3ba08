"""Many processes train one model: what each holds, sees and sends. Put on a model from outside.

Processes stand in a grid of `data` x `shard` x `context` x `tensor`. Along `data` and `shard` each has other rows of a
batch, along `context` other positions of the same rows, along `tensor` other heads and columns of the same matrices; or
there, by `expert`, other experts of the same mixtures.
Parameters are split over `shard` x `context` and summed over `data` (FSDP2: Zhao et al. 2023), so any of the four may
be one. Every process draws the whole batch and keeps its part: the order of the data does not know how many there are.

B batch, T tokens, S keys, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from ..core import processes
from ..core.config import Config
from ..core.errors import ConfigError, DataError
from .execution import outer_blocks

M = TypeVar("M", bound=nn.Module)


class ParallelConfig(Config):
    """How the processes of a run are laid out; their product is their number."""

    data: int = Field(0, ge=0, description="copies of the model, each with other rows; 0: as many as are left")
    shard: int = Field(1, ge=1, description="processes that a copy's parameters are split over, each with other rows")
    tensor: int = Field(1, ge=1, description="processes that heads and columns of matrices are split over")
    context: int = Field(1, ge=1, description="processes that the positions of a sequence are split over")
    pipeline: int = Field(1, ge=1, description="processes that the blocks are split over: 1, others are refused")
    expert: int = Field(1, ge=1, description="processes that the experts of a mixture are split over")

    @model_validator(mode="after")
    def _possible(self) -> ParallelConfig:
        if self.pipeline > 1:
            raise ValueError("pipelines of blocks are not supported: split parameters by shard, matrices by tensor")
        if self.tensor > 1 and self.expert > 1:
            raise ValueError("matrices are split by tensor or by expert, not by both")
        return self

    def filled(self, count: int) -> ParallelConfig:
        """With `data` known, for `count` processes.

        Raises:
            ConfigError: the grid does not have `count` places.
        """
        rest = self.shard * self.tensor * self.context * self.expert
        data = self.data or count // rest
        if data * rest != count:
            shown = ", ".join(f"{name} {value}" for name, value in self.model_dump().items() if value > 1)
            raise ConfigError(
                f"{count} processes do not fill a grid of {shown or 'one'}", where="parallel",
                hint="Start as many as the product of its numbers (torchrun --nproc-per-node), or leave data at 0.",
            )  # fmt: skip
        return self.replace(data=data)


class Parallel:
    """This process's place in the grid, and what it does there. With one process there is no grid, and nothing to do.

    Attributes:
        replicas, replica: how many processes have rows of their own, and which of them this one is.
    """

    def __init__(self, config: ParallelConfig | None = None, device: str = "cpu") -> None:
        """Raises ConfigError where the grid and the number of processes do not match."""
        processes.join()
        self.config = (config or ParallelConfig()).filled(processes.count())
        self.replicas, self.replica = 1, 0
        self._context: ContextParallel | None = None
        self._head_norms: list[nn.Module] = []
        self._experts: list[nn.Module] = []
        self._grid: DeviceMesh | None = None
        if processes.count() == 1:
            return
        data, shard, context = self.config.data, self.config.shard, self.config.context
        tensor = self.config.tensor * self.config.expert
        # The same grid three times: as parameters are spread, as sequences are cut, and as sums go over a batch.
        with processes.meeting():
            self._grid = init_device_mesh(
                device, (data, shard * context, tensor), mesh_dim_names=("data", "split", "tensor")
            )
            cut = init_device_mesh(
                device, (data * shard, context, tensor), mesh_dim_names=("rows", "context", "tensor")
            )
            self._sums = init_device_mesh(device, (data * shard * context, tensor), mesh_dim_names=("batch", "tensor"))
        self._cut = cut["context"]
        self.replicas, self.replica = data * shard, cut.get_local_rank("rows")

    @property
    def is_spread(self) -> bool:
        return self._grid is not None

    def apply(self, model: nn.Module) -> None:
        """Spread `model`, whose weights are equal in all processes.

        Raises:
            ConfigError: the model cannot be spread in this way.
        """
        if self._grid is None:
            return
        if self.config.tensor > 1:
            self._head_norms = split_matrices(model, self._grid["tensor"])
        if self.config.expert > 1:
            self._experts = split_experts(model, self._grid["tensor"])
        if self.config.context > 1:
            self._context = ContextParallel(model, self._cut)
        if self._sums["batch"].size() > 1:
            _shard(model, self._grid["data", "split"] if self.config.data > 1 else self._grid["split"])

    def parts(self, batch: Any, accumulation: int) -> list[Any]:
        """This process's micro-batches of a whole batch.

        Raises:
            DataError: not all processes would have rows.
        """
        wanted = accumulation * self.replicas
        parts: list[Any] = [batch] if wanted == 1 else batch.split(wanted)
        if self.replicas > 1 and len(parts) != wanted:
            raise DataError(
                f"a batch cannot be cut for {self.replicas} processes and {accumulation} micro-batches",
                where="batch_size", hint="Make it a multiple of their product.",
            )  # fmt: skip
        return parts[self.replica :: self.replicas]

    def loss(self, objective: Any, model: nn.Module, part: Any) -> tuple[Tensor, Tensor, Any]:
        """The objective's loss of a micro-batch; where sequences are cut, of this process's positions."""
        _unshard(model)
        if self._context is None:
            return objective.loss(model, part)
        with self._context.cut(part) as mine:
            return objective.loss(model, mine)

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """Evaluation mode, in which every process sees whatever it is given whole, and all must be given the same."""
        model.eval()
        _unshard(model)
        with torch.no_grad():
            yield
        if isinstance(model, FSDPModule):
            model.reshard()

    def total(self, values: Tensor) -> Tensor:
        """The sums over all parts of the batch of `values` (n,)."""
        if self._grid is not None and self._sums["batch"].size() > 1:
            dist.all_reduce(values, group=self._sums.get_group("batch"))
        return values

    def gather(self, model: M, make: Callable[[], M]) -> M:
        """The model in one piece: in the first process, with the weights; others get one to throw away."""
        if self._grid is None:
            return model
        pieces = {key: whole(one).cpu() for key, one in model.state_dict().items()}
        if self._experts:
            of_all: list[dict[str, Tensor]] = [{}] * self.config.expert
            mine = {key: one for key, one in pieces.items() if ".experts." in key}
            dist.all_gather_object(of_all, mine, group=self._grid.get_group("tensor"))
            pieces |= {key: one for each in of_all for key, one in each.items()}
        alone = make()
        alone.load_state_dict(pieces)
        return alone

    def clip(self, parameters: Sequence[nn.Parameter], largest: float) -> float:
        """Scale the gradients to a norm of at most `largest` over all processes; returns the norm that they had."""
        experts = {id(one) for expert in self._experts for one in expert.parameters()}
        by_spread: dict[Any, list[Tensor]] = {}
        own: list[Tensor] = []  # gradients that no other process along `expert` has
        for one in parameters:
            if one.grad is not None:
                spread = (one.grad.device_mesh, one.grad.placements) if isinstance(one.grad, DTensor) else None
                (own if id(one) in experts else by_spread.setdefault(spread, [])).append(one.grad)
        norms = [whole(nn.utils.get_total_norm(gradients)) for gradients in by_spread.values()]
        if self._experts and self._grid is not None:
            square = whole(nn.utils.get_total_norm(own)).square()
            dist.all_reduce(square, group=self._grid.get_group("tensor"))
            norms.append(square.sqrt())
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([local(one) for gradients in (*by_spread.values(), own) for one in gradients], factor)
        return float(norm)

    def finish_gradients(self) -> None:
        """Sum the gradients of weights that are used by parts in several processes."""
        for norm in self._head_norms:
            for one in norm.parameters():
                assert self._grid is not None
                assert one.grad is not None
                dist.all_reduce(local(one.grad), group=self._grid.get_group("tensor"))


def _shard(model: nn.Module, grid: DeviceMesh) -> None:
    """FSDP2 of each block and of the rest (Zhao et al. 2023)."""
    for module in (*outer_blocks(model), model):
        fully_shard(module, mesh=grid)
        assert isinstance(module, FSDPModule)
        # Losses are sums: so are their gradients, and the trainer divides once.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    if hasattr(model, "hidden"):
        register_fsdp_forward_method(model, "hidden")


def _unshard(model: nn.Module) -> None:
    """Have the weights outside the blocks at hand: losses read the head's before they call the model."""
    if isinstance(model, FSDPModule):
        model.unshard()


def split_matrices(model: nn.Module, grid: DeviceMesh) -> list[nn.Module]:
    """Split heads and inner columns, each sublayer's second matrix summing what the processes made (Megatron: Shoeybi
    et al. 2019, section 3). Returns the norms of heads, whose gradients are each a part.

    Raises:
        ConfigError: a sublayer that cannot be split so.
    """
    from ..models.attention import Attention
    from ..models.block import Block
    from ..models.feedforward import MixtureOfExperts

    blocks = [one for one in model.modules() if isinstance(one, Block)]
    norms: list[nn.Module] = []
    for block in blocks:
        attention = block.attention
        if not isinstance(attention, Attention) or attention.sinks is not None or block.cross_attention is not None:
            raise ConfigError("only plain self-attention can be split by heads", where="parallel.tensor")
        if isinstance(block.feedforward, MixtureOfExperts):
            raise ConfigError("a mixture of experts is not split by columns", where="parallel.tensor")
        norms += [one for one in (attention.q_norm, attention.k_norm) if one is not None]
        first, second = ColwiseParallel, RowwiseParallel
        plan: dict[str, ParallelStyle] = {f"attention.{one}_proj": first() for one in "qkv"}
        plan |= {"attention.o_proj": second(), "feedforward.up_proj": first(), "feedforward.down_proj": second()}
        if hasattr(block.feedforward, "gate_proj"):
            plan["feedforward.gate_proj"] = first()
        for name in ("q_proj", "k_proj"):
            _require_divisible(getattr(attention, name).out_features // attention.head_dim, grid.size(), "heads")
        _require_divisible(block.feedforward.up_proj.out_features, grid.size(), "inner columns")
        parallelize_module(block, grid, plan)
    if not blocks:
        raise ConfigError("the model has no blocks to split", where="parallel.tensor")
    return norms


def _require_divisible(count: int, parts: int, what: str) -> None:
    if count % parts:
        raise ConfigError(f"{count} {what} cannot be split over {parts} processes", where="parallel")


def split_experts(model: nn.Module, grid: DeviceMesh) -> list[nn.Module]:
    """Leave each process its share of every mixture's experts. All see all tokens, and what their experts make of them
    is summed, so nothing is routed and no token is dropped. Returns the experts that stay here.

    Raises:
        ConfigError: there are no experts, or their number cannot be divided.
    """
    from ..models.feedforward import MixtureOfExperts

    mixtures = [one for one in model.modules() if isinstance(one, MixtureOfExperts)]
    if not mixtures:
        raise ConfigError("the model has no experts to split", where="parallel.expert")
    stay: list[nn.Module] = []
    for mixture in mixtures:
        _require_divisible(len(mixture.experts), grid.size(), "experts")
        share = len(mixture.experts) // grid.size()
        for number, expert in enumerate(mixture.experts):
            if number // share == grid.get_local_rank():
                stay.append(expert)
            else:
                mixture.experts[number] = nn.Identity()
        mixture.mix = _summed(mixture.mix, grid.get_group())  # type: ignore[method-assign, assignment]
    return stay


def _summed(mix: Callable[[Tensor, Tensor, Tensor], Tensor], group: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def mixed(x_NC: Tensor, weights_NK: Tensor, experts_NK: Tensor) -> Tensor:
        x_NC, weights_NK = _SumBackward.apply(x_NC, weights_NK, group)
        # Without a token for an expert here, the backward pass would not come by, and the others would wait.
        bound = x_NC[:0].sum() + weights_NK[:0].sum()
        total: Tensor = _SumForward.apply(mix(x_NC, weights_NK, experts_NK) + bound, group)
        return total

    return mixed


class _SumBackward(torch.autograd.Function):
    """Two tensors as they are; backwards, the sums of their gradients over the processes."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor, group: Any) -> tuple[Tensor, Tensor]:
        ctx.group = group
        return one.view_as(one), other.view_as(other)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        one, other = (gradient.contiguous().clone() for gradient in gradients)
        for gradient in (one, other):
            dist.all_reduce(gradient, group=ctx.group)
        return one, other, None


class _SumForward(torch.autograd.Function):
    """The sum over the processes; backwards, the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: Any) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class ContextParallel:
    """Each process has some positions of every sequence; keys and values are gathered, so that its queries see all
    before them (Llama 3: Dubey et al. 2024, section 3.3.2).

    A sequence is cut into twice as many pieces as there are processes, and each takes one from the front and its mirror
    from the back: the work of causal attention is the same for all.
    """

    def __init__(self, model: nn.Module, grid: DeviceMesh) -> None:
        """Raises ConfigError where a model's attention does not work so."""
        from ..models.attention import Attention
        from ..models.transformer import Decoder

        if not isinstance(model, Decoder) or any(
            not isinstance(block.attention, Attention) for block in model.blocks
        ) or model.config.window or model.config.positions not in ("rotary", "learned", "sinusoidal"):  # fmt: skip
            raise ConfigError(
                "sequences of this model cannot be cut: its attention is not plain, or sees distances",
                where="parallel.context",
            )  # fmt: skip
        self._group, self._size, self._rank = grid.get_group(), grid.size(), grid.get_local_rank()
        self._places: Tensor | None = None  # (T of this process,) while a cut batch is under way
        for block in model.blocks:
            assert isinstance(block.attention, Attention)
            block.attention._keys_and_values = self._gathering(block.attention._keys_and_values)  # type: ignore[method-assign]
        self._whole_hidden = model.hidden
        model.hidden = self._hidden  # type: ignore[method-assign]

    @contextmanager
    def cut(self, batch: Any) -> Iterator[Any]:
        """This process's positions of a batch, for as long as the model works on them."""
        length = batch.ids_BT.shape[1]
        if length % (2 * self._size):
            raise DataError(
                f"{length} positions cannot be cut for {self._size} processes", where="context_length",
                hint=f"Make it a multiple of {2 * self._size}.",
            )  # fmt: skip
        if getattr(batch, "documents_BT", None) is not None or getattr(batch, "prefix_B", None) is not None:
            raise ConfigError(
                "sequences with document masks or prefixes are not cut", where="parallel.context",
                hint="Leave context at 1 or these off.",
            )  # fmt: skip
        pieces = torch.arange(length, device=batch.ids_BT.device).chunk(2 * self._size)
        self._places = torch.cat((pieces[self._rank], pieces[-1 - self._rank]))
        mine = (one[:, self._places].contiguous() for one in (batch.ids_BT, batch.targets_BT, batch.weights_BT))
        try:
            yield type(batch)(*mine)
        finally:
            self._places = None

    def _hidden(self, ids_BT: Tensor, *others: Any, **named: Any) -> Tensor:
        if self._places is None:
            return self._whole_hidden(ids_BT, *others, **named)
        everywhere = torch.cat(
            [torch.cat((pieces[rank], pieces[-1 - rank])) for pieces in [self._pieces()] for rank in range(self._size)]
        )
        mask = self._places[:, None] >= everywhere  # (T, S)
        return self._whole_hidden(ids_BT, self._places.expand(ids_BT.shape[0], -1), mask[None, None])

    def _pieces(self) -> tuple[Tensor, ...]:
        assert self._places is not None
        return torch.arange(len(self._places) * self._size, device=self._places.device).chunk(2 * self._size)

    def _gathering(self, project: Any) -> Any:
        def keys_and_values(source_BSC: Tensor, rotation: Any) -> tuple[Tensor, Tensor]:
            keys, values = project(source_BSC, rotation)
            if self._places is None:
                return keys, values
            both = _GatherPositions.apply(torch.stack((keys, values), dim=2), self._group, self._rank, self._size)
            return both.unbind(2)

        return keys_and_values


class _GatherPositions(torch.autograd.Function):
    """(B, T, ...) of each process, one behind the other along T; backwards, the sum of what all say of one's own."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: Any, rank: int, size: int) -> Tensor:
        ctx.group, ctx.rank, ctx.length = group, rank, mine.shape[1]
        gathered = [torch.empty_like(mine) for _ in range(size)]
        dist.all_gather(gathered, mine.contiguous(), group=group)
        return torch.cat(gathered, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient.narrow(1, ctx.rank * ctx.length, ctx.length), None, None, None


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered from the processes that hold parts of it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor that is spread as `like` is. Nothing is sent."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).to_local()


def split_groups(optimizer: torch.optim.Optimizer) -> None:
    """Part an optimizer's groups so that all parameters of one are spread over the same grid, as fused kernels want."""
    groups = []
    for group in optimizer.param_groups:
        by_grid: dict[Any, list[nn.Parameter]] = {}
        for one in group["params"]:
            by_grid.setdefault(one.device_mesh if isinstance(one, DTensor) else None, []).append(one)
        groups += [{**group, "params": members} for members in by_grid.values()]
    optimizer.param_groups = groups

"""How far fine-tuning moved the run's weights, and in how many directions: the difference of the tuned model and the
base one by matrix, and what is left of the answers when only its first directions are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...core.randomness import torch_generator
from ...datasets.instructions import EncodedInstructions, encode_instructions, read_instructions
from ...finetuning.comparison import mean_nats
from ...finetuning.instruct import HELD_OUT_ROWS
from ...models import Decoder
from ...reports import charts, index_charts
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_MOST = 0.9  # of a difference's energy, or of what was learned
_LOW = 8  # times fewer directions than there are that count as few
_EMBEDDING = "embedding"


class FinetuningRanksSettings(Settings):
    ranks: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32, 64), min_length=2, description="that the difference is cut to")
    rows: int = Field(128, ge=1, description="held-out answers that the loss is measured on, at most")


@dataclass(frozen=True)
class Move:
    """What became of the matrices of one kind; means over the layers.

    Attributes:
        distance: norm of the difference over that of the base matrix.
        rank: directions that hold most of the difference's energy.
        chance: of a random matrix of this shape.
        full: directions that there are.
    """

    kind: str
    distance: float
    rank: float
    chance: float
    full: int


def measure(bench: Bench, settings: FinetuningRanksSettings) -> Finding:
    base, tuned = bench.decoder("base"), bench.decoder("sft")
    bench.advance("directions of the differences")
    moved = moves(base, tuned, settings.seed)
    held_out = read_instructions(bench.run / "sft" / HELD_OUT_ROWS).rows[: settings.rows]
    rows = encode_instructions(held_out, bench.tokenizer, base.config.context_length)
    before, after = (_answer_loss(model, rows) for model in (base, tuned))
    losses = {}
    for rank in settings.ranks:
        bench.advance(f"answers with {rank} directions a matrix")
        losses[rank] = _answer_loss(cut(base, tuned, rank), rows)
    recipe = bench.recipe.finetuning.full
    return judge(moved, losses, before, after, base.config.hidden_size, "" if recipe is None else recipe.optimizer)


def moves(base: Decoder, tuned: Decoder, seed: int) -> list[Move]:
    """One for each kind of matrix, in the model's order."""
    found: dict[str, list[tuple[float, int, int, int]]] = defaultdict(list)
    after = dict(tuned.named_parameters())
    for name, weight in base.named_parameters():
        if weight.dim() == 2:
            difference = (after[name] - weight).detach()
            drawn = torch.randn(weight.shape, generator=torch_generator(seed, "ranks", name))
            distance = float(difference.norm() / weight.detach().norm())
            found[_kind(name)].append((distance, energy_rank(difference), energy_rank(drawn), min(weight.shape)))
    means = {kind: np.mean(matrices, axis=0) for kind, matrices in found.items()}
    return [Move(kind, float(one[0]), float(one[1]), float(one[2]), int(one[3])) for kind, one in means.items()]


def energy_rank(matrix: Tensor, share: float = _MOST) -> int:
    """The fewest singular directions whose squares sum to `share` of all; 0 of a matrix of zeros."""
    squares = torch.linalg.svdvals(matrix.double()) ** 2
    total = float(squares.sum())
    return 0 if total == 0 else int(torch.searchsorted(squares.cumsum(0), share * total)) + 1


def cut(base: Decoder, tuned: Decoder, rank: int) -> Decoder:
    """The base model with the first `rank` singular directions of each matrix's difference, and all of what is no
    matrix."""
    made = Decoder(base.config)
    made.load_state_dict(tuned.state_dict())
    origin = dict(base.named_parameters())
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.dim() == 2:
                left, values, right = torch.linalg.svd(weight - origin[name], full_matrices=False)
                weight.copy_(origin[name] + (left[:, :rank] * values[:rank]) @ right[:rank])
    return made.eval()


def judge(
    moved: Sequence[Move], losses: Mapping[int, float], before: float, after: float, width: int, optimizer: str = ""
) -> Finding:
    """The finding of answer losses by rank, between that of the base model and that of the tuned one."""
    shares = {rank: (before - loss) / (before - after) if before != after else 0.0 for rank, loss in losses.items()}
    enough = min((rank for rank, share in shares.items() if share >= _MOST), default=None)
    blocks = [one for one in moved if one.kind != _EMBEDDING] or list(moved)
    used, chance = (float(np.mean([getattr(one, name) for one in blocks])) for name in ("rank", "chance"))
    few = enough is not None and enough * _LOW <= width
    verdict: Verdict = (
        "holds" if few and used * _LOW <= width else "holds in part" if few or used < chance else "does not hold"
    )  # fmt: skip
    farthest = max(moved, key=lambda one: one.distance)
    reached = (
        f"{enough} of {width} directions a matrix give {shares[enough]:.0%} of what fine-tuning took off the loss"
        if enough else f"even {max(shares)} directions a matrix give only {shares[max(shares)]:.0%} of it"
    )  # fmt: skip
    sentences = (
        f"Fine-tuning moved the matrices by {min(one.distance for one in moved):.0%} to {farthest.distance:.0%} of "
        f"their norm, {farthest.kind} the farthest; nine tenths of a difference’s energy lie in {used:.0f} "
        f"directions on average in the blocks, where a random matrix has {chance:.0f}.",
        f"The loss on held-out answers went from {before:.2f} to {after:.2f}; {reached}.",
    )
    rows: list[list[Any]] = [
        [one.kind, one.distance, round(one.rank, 1), round(one.chance, 1), one.full] for one in moved
    ]
    directions = [
        {"kind": "embed." if one.kind == _EMBEDDING else one.kind, "of": name, "rank": 100 * value / one.full}
        for one in moved for name, value in (("difference", one.rank), ("random matrix", one.chance))
    ]  # fmt: skip
    learned = [{"rank": rank, "share": share, "series": "learned"} for rank, share in shares.items()]
    return Finding(
        verdict, sentences,
        ("Matrix", "Moved, share of its norm", "Directions", "Of a random one", "Directions there are"), rows,
        [("What is learned with so many directions", index_charts.lines(
            learned, "rank", "share", ("learned",), "directions a matrix", "share of what was learned",
            x_values=list(losses), y_axis=".0%",
         )),
         ("Directions that hold nine tenths of the energy", charts.grouped_bars(
             directions, "kind", "of", "rank", "per cent of the directions there are", ("difference", "random matrix"),
             label=lambda one: f"{one:.0f}",
         ))],
        {"before": before, "after": after, "rank": used, "chance": chance, "enough": float(enough or 0)},
        "Means over layers. What is no matrix (norms) is kept whole. The embedding is also the head." + _of(optimizer),
    )  # fmt: skip


def _of(optimizer: str) -> str:
    """What there is to say of the optimizer: a step of Muon has no direction that is smaller than another."""
    if optimizer != "muon":
        return f" The model was tuned by {optimizer}." if optimizer else ""
    return " The blocks were tuned by Muon, whose every step goes equally far in all directions."


def _answer_loss(model: Decoder, rows: EncodedInstructions) -> float:
    return mean_nats(model, rows.ids, rows.answers)


def _kind(name: str) -> str:
    """ "blocks.1.attention.q_proj.weight" to "q"."""
    return name.removesuffix(".weight").rpartition(".")[2].removesuffix("_proj")


EXHIBIT = Exhibit(
    question="How far does fine-tuning move the weights, and in how many directions?",
    claim="Fine-tuning moves weights little and in few directions, so that an update of low rank does nearly as well.",
    formula="ΔW = U S Vᵀ; W₀ + Σ_{i≤r} sᵢ uᵢ vᵢᵀ is the closest of rank r (Eckart and Young 1936).",
    source="Hu et al. 2021 (LoRA), section 7.2; Biderman et al. 2024 (LoRA learns less and forgets less)",
    settings=FinetuningRanksSettings,
    measure=measure,
    needs=("tokenizer", "base", "sft"),
)

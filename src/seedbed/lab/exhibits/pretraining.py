"""What a model learns first: the run's model trained once more for a while, and watched. How near it comes to a unigram
and to a bigram model, and when the loss falls on frequent tokens and on rare ones.

W windows, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ...core.randomness import torch_generator
from ...datasets.loader import PackedBatches
from ...datasets.shards import TokenShards
from ...models import Decoder
from ...reports import charts, index_charts
from ...training import NextToken, Trainer
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

GROUPS = ("frequent", "middling", "rare")
_KL = {"unigram": "to the unigram model", "bigram": "to the bigram model"}


class PretrainingSettings(Settings):
    steps: int = Field(150, ge=4, description="of the recipe's batches")
    every: int = Field(5, ge=1, description="steps between looks")
    windows: int = Field(32, ge=1, description="held-out ones that are looked at, of the recipe's context length")
    smoothing: float = Field(20.0, gt=0, description="unigram counts that are mixed into the counts after a token")


@dataclass(frozen=True)
class HeldOut:
    """What the model is watched on.

    ids_WT, targets_WT: int64. group_WT: the place in GROUPS of each target. unigram_V: probabilities in the training
    text. bigram_V: (ids) -> (n, V) probabilities after each of these tokens.
    """

    ids_WT: Tensor
    targets_WT: Tensor
    group_WT: Tensor
    unigram_V: Tensor
    bigram: Bigrams

    @classmethod
    def of(cls, train: TokenShards, validation: TokenShards, length: int, settings: PretrainingSettings) -> HeldOut:
        tokens = np.asarray(validation.tokens[: settings.windows * length + 1], dtype=np.int64)
        count = (len(tokens) - 1) // length
        ids, targets = (
            torch.from_numpy(tokens[start : start + count * length].reshape(count, length)) for start in (0, 1)
        )
        bigram = Bigrams(np.asarray(train.tokens, dtype=np.int64), train.vocab_size, settings.smoothing)
        return cls(ids, targets, frequency_groups(bigram.unigram_V)[targets], bigram.unigram_V, bigram)


class Bigrams:
    """P(next | token) = (count(token, next) + s P(next)) / (count(token) + s), with the unigram P."""

    def __init__(self, tokens: np.ndarray, vocab_size: int, smoothing: float) -> None:
        self._smoothing = smoothing
        counts = np.bincount(tokens, minlength=vocab_size) + 1.0  # no token is impossible
        self.unigram_V = torch.from_numpy(counts / counts.sum()).float()
        pairs, self._counts = np.unique(tokens[:-1] * vocab_size + tokens[1:], return_counts=True)
        self._next = pairs % vocab_size
        self._starts = np.searchsorted(pairs, np.arange(vocab_size + 1) * vocab_size)

    def __call__(self, ids: Sequence[int]) -> Tensor:
        """(n, V) of n tokens."""
        out = self._smoothing * self.unigram_V.repeat(len(ids), 1)
        for row, token in enumerate(ids):
            part = slice(int(self._starts[token]), int(self._starts[token + 1]))
            out[row, self._next[part]] += torch.from_numpy(self._counts[part]).float()
        return out / out.sum(dim=1, keepdim=True)


def frequency_groups(unigram_V: Tensor) -> Tensor:
    """(V,) 0 for the most frequent tokens that make up a third of the text, 1 for those of the next third, else 2."""
    order = unigram_V.argsort(descending=True)
    before = unigram_V[order].double().cumsum(0) - unigram_V[order]
    groups = torch.empty_like(order)
    groups[order] = (before * 3).floor().clamp(max=2).long()
    return groups


@torch.no_grad()
def look(model: Decoder, held: HeldOut) -> dict[str, float]:
    """Loss by group, and mean Kullback-Leibler divergence of the unigram and bigram predictions from the model's."""
    sums, counts = torch.zeros(len(GROUPS)), torch.zeros(len(GROUPS))
    divergences = {"unigram": 0.0, "bigram": 0.0}
    for ids_T, targets_T, group_T in zip(held.ids_WT, held.targets_WT, held.group_WT, strict=True):
        logs_TV = model(ids_T[None])[0].float().log_softmax(-1)
        sums.index_add_(0, group_T, -logs_TV.gather(1, targets_T[:, None])[:, 0])
        counts.index_add_(0, group_T, torch.ones(len(group_T)))
        for name, told in (("unigram", held.unigram_V[None]), ("bigram", held.bigram(ids_T.tolist()))):
            divergences[name] += float((told * (told.log() - logs_TV)).sum(-1).mean()) / len(held.ids_WT)
    return {name: float(one) for name, one in zip(GROUPS, sums / counts.clamp(min=1), strict=True)} | divergences


def measure(bench: Bench, settings: PretrainingSettings) -> Finding:
    recipe, train = bench.recipe.pretraining, bench.tokens()
    held = HeldOut.of(train, bench.tokens("validation"), recipe.context_length, settings)
    model = Decoder(recipe.model(bench.tokenizer.vocab_size), torch_generator(settings.seed, "weights"))
    path = bench.scratch / "metrics.jsonl"
    first = {"step": 0, **look(model, held)}
    trainer = recipe.training.replace(
        steps=settings.steps, evaluate_every=settings.every, checkpoint_every=50, seed=settings.seed
    )

    def evaluate(trained: nn.Module) -> Mapping[str, float]:
        assert isinstance(trained, Decoder)
        return look(trained.eval(), held)

    bench.advance(f"{settings.steps} steps of pre-training")
    Trainer(
        trainer, model, NextToken(), PackedBatches(train, trainer.batch_size, recipe.context_length, settings.seed),
        scratch=bench.scratch, metrics_path=path, evaluate=evaluate, name="pretrain",
    ).run()  # fmt: skip
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seen = [first, *(row for row in rows if "unigram" in row)]
    bench.advance("losses by position in the finished base model")
    return judge(seen, by_position(bench.decoder("base"), held))


@torch.no_grad()
def by_position(model: Decoder, held: HeldOut) -> dict[int, list[float]]:
    """Losses of single tokens by the first position of their range; ranges double: 0, 1, 2-3, 4-7, ..."""
    found: dict[int, list[float]] = {}
    for ids_T, targets_T in zip(held.ids_WT, held.targets_WT, strict=True):
        losses_T = -model(ids_T[None])[0].float().log_softmax(-1).gather(1, targets_T[:, None])[:, 0]
        for position, loss in enumerate(losses_T.tolist()):
            found.setdefault(1 << (position.bit_length() - 1) if position else 0, []).append(loss)
    return found


def half_step(steps: Sequence[int], losses: Sequence[float]) -> float:
    """The step at which a loss has come half way from its first to its last value, between two looks on a line."""
    half = (losses[0] + losses[-1]) / 2
    for place in range(1, len(losses)):
        if losses[place] <= half:
            share = (losses[place - 1] - half) / max(losses[place - 1] - losses[place], 1e-12)
            return steps[place - 1] + share * (steps[place] - steps[place - 1])
    return float(steps[-1])


def judge(seen: Sequence[Mapping[str, float]], positions: Mapping[int, Sequence[float]]) -> Finding:
    """The finding of looks by rising step, and of losses by position."""
    steps = [int(row["step"]) for row in seen]
    halves = {name: half_step(steps, [row[name] for row in seen]) for name in GROUPS}
    nearest = {name: steps[int(np.argmin([row[name] for row in seen]))] for name in _KL}
    early, late = (np.asarray(positions[key(positions)]) for key in (min, max))
    apart = early.mean() - late.mean()
    error = float(np.sqrt(early.var() / len(early) + late.var() / len(late)))
    frequent = halves["frequent"] < halves["rare"]
    stages = nearest["unigram"] < nearest["bigram"]
    verdict: Verdict = (
        "holds" if frequent and stages and apart > 2 * error
        else "holds in part" if frequent or stages
        else "does not hold"
    )  # fmt: skip
    ended = ", where it ends" if nearest["bigram"] == steps[-1] else ""
    sentences = (
        f"The model comes nearest to the unigram model at step {nearest['unigram']} and to the bigram model at step "
        f"{nearest['bigram']}{ended}; half of what it learns of frequent tokens in {steps[-1]} steps it has learned "
        f"by step {halves['frequent']:.0f}, of rare ones by step {halves['rare']:.0f}.",
        f"In the finished base model the first token of a window costs {early.mean():.2f} nats and those behind "
        f"{max(positions)} others {late.mean():.2f}, a difference of {apart:.2f} ± {error:.2f}.",
    )
    shown = _spread(seen)
    rows: list[list[Any]] = [
        [int(row["step"]), *(row[name] for name in GROUPS), *(row[name] for name in _KL)] for row in shown
    ]
    divergences = [
        {"step": max(int(row["step"]), 1), "value": row[name], "series": words}
        for name, words in _KL.items() for row in seen
    ]  # fmt: skip
    losses = [{"step": max(int(row["step"]), 1), "value": row[name], "series": name} for name in GROUPS for row in seen]
    places = [{"position": _range(first), "loss": float(np.mean(one))} for first, one in sorted(positions.items())]
    return Finding(
        verdict, sentences,
        ("Step", "Loss, frequent", "middling", "rare", "Divergence, unigram", "bigram"), rows,
        [("Divergence from simpler models", index_charts.lines(
            divergences, "step", "value", tuple(_KL.values()), "step", "nats a token", form="~s"
        )),
         ("Loss by frequency", index_charts.lines(losses, "step", "value", GROUPS, "step", "nats a token", form="~s")),
         ("Loss of the base model by position", charts.bars(places, "position", "loss", "nats a token"))],
        {f"nearest_{name}": float(step) for name, step in nearest.items()}
        | {f"half_{name}": step for name, step in halves.items()}
        | {"early": float(early.mean()), "late": float(late.mean())},
        "Frequent: the most frequent tokens that make up a third of the text; middling: the next third. Divergence: of "
        "the model from what the simpler one foretells. On the charts, step 0 stands at 1.",
    )  # fmt: skip


def _spread(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """At most ten rows, closer at the start, where most happens."""
    places = sorted({0, *(round(one) for one in np.geomspace(1, len(rows) - 1, 9))})
    return [rows[place] for place in places if place < len(rows)]


def _range(first: int) -> str:
    return str(first) if first < 2 else f"{first}–{2 * first - 1}"


EXHIBIT = Exhibit(
    question="What does next-token prediction learn first, and of which tokens?",
    claim="A model first learns how frequent tokens are, then which follow which, then longer context; frequent tokens "
    "come before rare ones, and more context makes a token cheaper.",
    formula="L = −(1/T) Σ log p(xₜ | x₍<ₜ₎); D(q‖p) = Σ q log(q / p), q of a unigram or bigram model.",
    source="Chang and Bergen 2022 (word acquisition in language models); Kaplan et al. 2020, appendix D.5",
    settings=PretrainingSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)

"""What a doubling of text is worth, and what text is worth that is read again: one small model trained on more and more
new text, and for one length on ever smaller parts of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field
from torch import nn

from ...evaluation.likelihood import likelihood
from ...reports import index_charts
from ...scaling import effective_tokens
from ...scaling.ladder import Rung, Training, run_trainings
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_HALF_LIFE = 15.387756  # R_D of Muennighoff et al. 2023, section 5: what their models made of repetition
_FEW, _NEARLY = (
    4,
    0.85,
)  # readings after which a token is said to be worth nearly as much as a new one, and what that is
_MEASURED, _THEIRS = "measured", "by their law"


class DiminishingReturnsSettings(Settings):
    hidden_size: int = Field(48, ge=8, description="width of the model")
    layers: int = Field(2, ge=1, description="of the model")
    heads: int = Field(2, ge=1, description="of the model")
    steps: tuple[int, ...] = Field((40, 80, 160, 320), min_length=3, description="training lengths on new text, rising")
    repeated_steps: int = Field(160, ge=1, description="training length on text that is read again")
    epochs: tuple[int, ...] = Field((2, 4, 16), min_length=1, description="how often that text is read, rising")
    seeds: int = Field(2, ge=1, description="of each training")
    evaluation_tokens: int = Field(16_384, ge=1, description="of the validation split")


def measure(bench: Bench, settings: DiminishingReturnsSettings) -> Finding:
    losses = trained(bench, settings)
    batch = bench.recipe.pretraining.training.batch_size * bench.recipe.pretraining.context_length
    fresh = {steps * batch: losses[steps, 1] for steps in sorted({*settings.steps, settings.repeated_steps})}
    repeated = {1: losses[settings.repeated_steps, 1]} | {
        one: losses[settings.repeated_steps, one] for one in settings.epochs
    }
    return judge(fresh, repeated, settings.repeated_steps * batch)


def trained(bench: Bench, settings: DiminishingReturnsSettings) -> dict[tuple[int, int], list[float]]:
    """Validation losses (nats per token), one a seed, by steps and epochs."""
    recipe = bench.recipe.pretraining
    rung = Rung(hidden_size=settings.hidden_size, layers=settings.layers, heads=settings.heads)
    lengths = sorted({*settings.steps, settings.repeated_steps})
    trainings = [Training(rung, steps) for steps in lengths]
    trainings += [Training(rung, settings.repeated_steps, epochs) for epochs in settings.epochs]
    validation = bench.tokens("validation")

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        found = likelihood(model, validation, recipe.context_length, max_tokens=settings.evaluation_tokens)
        return {"validation_loss": found.loss, "bits_per_byte": found.bits_per_byte}

    losses: dict[tuple[int, int], list[float]] = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        bench.advance(f"{len(trainings)} trainings with seed {seed}")
        runs = run_trainings(
            trainings, recipe.model(bench.tokenizer.vocab_size), recipe.training, bench.tokens(), evaluate,
            scratch=bench.scratch / str(seed), seed=seed,
        )  # fmt: skip
        for training, run in zip(trainings, runs, strict=True):
            losses.setdefault((training.steps, training.epochs), []).append(run.loss)
    return losses


def worth(fresh: Mapping[int, Sequence[float]], loss: float) -> float:
    """Tokens of new text that reach `loss`, between and beyond the measured ones on straight lines in log tokens."""
    tokens = np.log(list(fresh))
    means = np.minimum.accumulate([np.mean(one) for one in fresh.values()])
    place = int(np.clip(np.searchsorted(-means, -loss), 1, len(means) - 1))
    fall = means[place] - means[place - 1]
    share = 0.0 if fall == 0 else (loss - means[place - 1]) / fall
    return float(np.exp(tokens[place - 1] + share * (tokens[place] - tokens[place - 1])))


def judge(fresh: Mapping[int, Sequence[float]], repeated: Mapping[int, Sequence[float]], tokens: int) -> Finding:
    """The finding of losses (one a seed) on new text by tokens, and of `tokens` of which each is read so often."""
    sizes, means = list(fresh), [float(np.mean(one)) for one in fresh.values()]
    # Lengths need not double: a gain is that of a doubling, on a straight line in log tokens.
    gains = [
        (before - after) / np.log2(more / less)
        for less, more, before, after in zip(sizes, sizes[1:], means, means[1:], strict=False)
    ]
    values = {epochs: worth(fresh, float(np.mean(losses))) / tokens for epochs, losses in repeated.items()}
    few = max((one for one in values if one <= _FEW), default=1)
    most = max(values)
    spreads = [float(np.std(one, ddof=1)) for one in [*fresh.values(), *repeated.values()] if len(one) > 1]
    noise = float(np.mean(spreads)) if spreads else 0.0
    falling = gains[-1] < gains[0]
    nearly, exhausted = values[few] >= _NEARLY, values[most] < _NEARLY
    verdict: Verdict = (
        "holds" if falling and nearly and exhausted else "holds in part" if falling or exhausted else "does not hold"
    )  # fmt: skip
    sentences = (
        f"Around {sizes[0]:,} tokens of new text a doubling takes {gains[0]:.2f} nats off the loss, around "
        f"{sizes[-1]:,} {gains[-1]:.2f}.",
        f"Of {tokens:,} tokens read, a token is worth {values[few]:.0%} of a new one where each is read {few} times, "
        f"and {values[most]:.0%} where each is read {most} times ({_theirs(few):.0%} and {_theirs(most):.0%} by the "
        f"law of larger models); losses of one setting differ by {noise:.3f} from seed to seed.",
    )
    rows: list[list[Any]] = [["new", size, 1, mean, 1.0] for size, mean in zip(sizes, means, strict=True)]
    rows += [
        ["read again", tokens, epochs, float(np.mean(losses)), values[epochs]]
        for epochs, losses in repeated.items() if epochs > 1
    ]  # fmt: skip
    falls = [{"tokens": size, "loss": mean, "series": "new text"} for size, mean in zip(sizes, means, strict=True)]
    prices = [{"epochs": epochs, "worth": value, "series": _MEASURED} for epochs, value in values.items()]
    prices += [{"epochs": epochs, "worth": _theirs(epochs), "series": _THEIRS} for epochs in values]
    return Finding(
        verdict, sentences, ("Text", "Tokens", "Times read", "Loss, nats per token", "Worth of a token"), rows,
        [("Returns of new text", index_charts.lines(
            falls, "tokens", "loss", ("new text",), "tokens read once", "loss, nats per token", form="~s"
        )),
         ("What is read again", index_charts.lines(
             prices, "epochs", "worth", (_MEASURED, _THEIRS), "times each token is read", "worth of a token",
             dashed=(_THEIRS,), x_values=list(values), y_axis=".0%",
         ))],
        {"first_gain": float(gains[0]), "last_gain": float(gains[-1]), "few": values[few], "most": values[most],
         "noise": noise},
        "Worth: tokens of new text that reach the same loss, over those that were read.",
    )  # fmt: skip


def _theirs(epochs: int) -> float:
    return float(effective_tokens(epochs, 1, _HALF_LIFE)) / epochs


EXHIBIT = Exhibit(
    question="What is the next doubling of text worth, and what is text worth that was read before?",
    claim="Each doubling of text gains less than the one before, and text read up to four times is nearly as good as "
    "new while text read many times is not.",
    formula="D′ = U + U R (1 − e^(−(e − 1) / R)) for e readings of U tokens; R ≈ 15.",
    source="Muennighoff et al. 2023, sections 3.1 and 5",
    settings=DiminishingReturnsSettings,
    measure=measure,
    needs=("tokenizer", "tokens"),
)

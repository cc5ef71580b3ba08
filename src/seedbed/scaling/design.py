"""Design a ladder for a main run: sizes below it and lengths up to its own, for a share of its cost.

Small models are cheap, so they can be trained as long as the main run: then the forecast reaches out in size alone, and
lengths, along which laws bend most, are spanned by runs.
"""

from __future__ import annotations

from ..core.errors import ConfigError
from ..models.config import ModelConfig
from ..training.trainer import TrainerConfig
from .ladder import LadderConfig, Rung

_WIDTHS = (0.17, 0.25, 0.35, 0.5, 0.7)  # of the main model's
_LENGTHS = (1.0, 0.5, 0.25)  # of the main run's steps
_SHRINKS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1)
_HEAD_MULTIPLE = 4
_FEWEST_STEPS = 30


def design_ladder(model: ModelConfig, training: TrainerConfig, share: float, *, level: float = 0.9) -> LadderConfig:
    """The longest ladder that costs at most `share` of the main run's FLOPs.

    Raises:
        ConfigError: no ladder is that cheap, or the main model is too small to have smaller ones.
    """
    rungs = _rungs(model)
    if len(rungs) < 3:
        raise ConfigError(
            f"a model of width {model.hidden_size} is too small to have a ladder below it", hint="Plan a larger one."
        )
    for shrink in _SHRINKS:
        lengths = tuple(max(1, round(training.steps * length * shrink)) for length in reversed(_LENGTHS))
        if min(lengths) < min(_FEWEST_STEPS, training.steps * min(_LENGTHS)) or len(set(lengths)) < len(lengths):
            break
        config = LadderConfig(rungs=rungs, steps=lengths, level=level)
        if ladder_cost(config, model, training) <= share:
            return config
    raise ConfigError(
        f"no ladder is as cheap as {share:.0%} of the main run", hint="Allow more, or plan a longer main run."
    )


def ladder_cost(config: LadderConfig, model: ModelConfig, training: TrainerConfig) -> float:
    """FLOPs of a ladder as a share of the main run's."""
    whole = model.flops_per_token() * training.steps
    return sum(one.rung.shape(model).flops_per_token() * one.steps for one in config.plan()) / whole


def _rungs(model: ModelConfig) -> tuple[Rung, ...]:
    """Shapes of the main model's depth, with heads of about its width. What a layer more makes possible, as copying
    from the context is with two (Olsson et al. 2022), comes in a leap that no ladder of other depths foretells."""
    found: list[Rung] = []
    for scale in _WIDTHS:
        heads = max(1, round(model.heads * scale))
        width = heads * _HEAD_MULTIPLE * max(1, round(model.hidden_size * scale / heads / _HEAD_MULTIPLE))
        rung = Rung(hidden_size=width, layers=model.layers, heads=heads)
        if width < model.hidden_size and all(one.hidden_size != width for one in found):
            found.append(rung)
    return tuple(found)

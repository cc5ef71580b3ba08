"""Floor 3: one trainer for many objectives, exactly resumable."""

from .objectives import MaskedTokens, NextToken, Objective, SpanCorruption
from .trainer import DivergenceError, Trainer, TrainerConfig, TrainResult

__all__ = [
    "DivergenceError",
    "MaskedTokens",
    "NextToken",
    "Objective",
    "SpanCorruption",
    "TrainResult",
    "Trainer",
    "TrainerConfig",
]

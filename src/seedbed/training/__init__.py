"""Floor 3: one trainer for many objectives, exactly resumable."""

from .objectives import NextToken, Objective
from .trainer import DivergenceError, Trainer, TrainerConfig, TrainResult

__all__ = ["DivergenceError", "NextToken", "Objective", "TrainResult", "Trainer", "TrainerConfig"]

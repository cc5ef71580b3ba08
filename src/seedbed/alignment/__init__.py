"""Floor 5: reward models and reinforcement learning from them."""

from . import advantages, losses
from .reward_model import RewardModel

__all__ = ["RewardModel", "advantages", "losses"]

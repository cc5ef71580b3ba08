"""The losses of alignment, pure: tensors and a mask in, one number out."""

from .divergence import Estimator, entropy, kl, kl_exact
from .masked import masked_mean, masked_sum
from .policy import Level, Reduction, grpo, grpo_count, ppo_policy, ppo_statistics, ppo_value
from .preferences import bradley_terry, dpo, ipo, kto, orpo, simpo

__all__ = [
    "Estimator", "Level", "Reduction", "bradley_terry", "dpo", "entropy", "grpo", "grpo_count", "ipo", "kl", "kl_exact",
    "kto", "masked_mean", "masked_sum", "orpo", "ppo_policy", "ppo_statistics", "ppo_value", "simpo",
]  # fmt: skip

"""How much of each source or language the training split takes: weights and temperature.

A group of n characters gets the share w * n^(1/T), of the sum over all groups. At temperature 1 that is what there is,
times the weights; higher ones even the groups out (Arivazhagan et al. 2019; Raffel et al. 2020, section 3.5.2). Nothing
is repeated: the group that is scarcest for its share is taken whole, and of the others documents are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ..core.config import Config

# The draw for a mixture is another one than for the splits, whose train documents have no small draws.
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


class MixingConfig(Config):
    """
    Attributes:
        by: what makes a group: "source" (the top folder, archive or file) or "language".
        weights: of groups by name; those not named have 1.
        temperature: 1 keeps proportions; large ones even them out.
    """

    by: Literal["source", "language"] = "source"
    weights: dict[str, float] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, gt=0)

    @field_validator("weights")
    @classmethod
    def _positive(cls, weights: dict[str, float]) -> dict[str, float]:
        if any(weight < 0 for weight in weights.values()):
            raise ValueError("weights are not negative")
        return weights

    @property
    def is_neutral(self) -> bool:
        return self.temperature == 1 and not self.weights

    def rates(self, characters: Mapping[str, int]) -> dict[str, float]:
        """The share of each group's documents that is taken, 0 to 1.

        >>> MixingConfig(temperature=2).rates({"a": 100, "b": 10_000})
        {'a': 1.0, 'b': 0.1}
        """
        wanted = {
            name: self.weights.get(name, 1.0) * size ** (1 / self.temperature)
            for name, size in characters.items()
            if size
        }
        ratios = {name: share / characters[name] for name, share in wanted.items()}
        most = max(ratios.values(), default=0) or 1
        return {name: round(ratio / most, 12) for name, ratio in ratios.items()}


def taken(draws: NDArray[np.uint64], rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each document is taken, by its draw and its group's rate; the same for every order."""
    scrambled = (draws ^ (draws >> np.uint64(31))) * _SCRAMBLE
    scrambled ^= scrambled >> np.uint64(29)
    return (scrambled * _SCRAMBLE) / np.float64(2.0**64) < rates

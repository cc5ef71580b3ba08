"""Models whose every parameter tells: norms, biases and position tables away from ones and zeros."""

from __future__ import annotations

from typing import Any

import torch

from seedbed.core.randomness import torch_generator


def shaken(model: torch.nn.Module, deviation: float = 0.2) -> Any:
    """`model` in evaluation mode, its vectors and position tables moved: at their initial values a swapped pair would
    not show."""
    generator = torch_generator(3, "shake")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 1 or "position" in name or "relative" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model.eval()

"""Floor 4: what a run will reach, written down before it is paid for."""

from .fit import ChinchillaFit, fit_chinchilla
from .laws import Allocation, ChinchillaLaw, effective_tokens

__all__ = ["Allocation", "ChinchillaFit", "ChinchillaLaw", "effective_tokens", "fit_chinchilla"]

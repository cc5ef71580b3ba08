"""Floor 4: what a run will reach, written down before it is paid for."""

from .fit import ChinchillaFit, fit_chinchilla
from .kaplan import KaplanFit, fit_kaplan
from .laws import Allocation, ChinchillaLaw, DataConstrainedLaw, KaplanLaw, OverfitLaw, effective_tokens
from .plan import Plan, plan
from .precision import PrecisionLaw, RoundingLaw, fit_precision, fit_rounding
from .repetition import DataConstrainedFit, OverfitFit, fit_data_constrained

__all__ = [
    "Allocation",
    "ChinchillaFit",
    "ChinchillaLaw",
    "DataConstrainedFit",
    "DataConstrainedLaw",
    "KaplanFit",
    "KaplanLaw",
    "OverfitFit",
    "OverfitLaw",
    "Plan",
    "PrecisionLaw",
    "RoundingLaw",
    "effective_tokens",
    "fit_chinchilla",
    "fit_data_constrained",
    "fit_kaplan",
    "fit_precision",
    "fit_rounding",
    "plan",
]

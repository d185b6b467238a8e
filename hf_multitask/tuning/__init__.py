"""Search for the settings of a run that score best on validation."""

from .results import TrialResult, TuningResult
from .run import run_tuning

__all__ = ["TrialResult", "TuningResult", "run_tuning"]

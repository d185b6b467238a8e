"""Freezing scenarios trained on the same data and compared."""

from .results import Front, RunResult, ScenarioResult, Score, Study, Summary, load_study
from .run import run_study
from .scenarios import Scenario, list_scenarios

__all__ = [
    "Front",
    "RunResult",
    "Scenario",
    "ScenarioResult",
    "Score",
    "Study",
    "Summary",
    "list_scenarios",
    "load_study",
    "run_study",
]

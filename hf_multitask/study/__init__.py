"""Comparison of freezing scenarios that are trained on the same data."""

from .run import run_study
from .scenarios import Scenario, list_scenarios
from .study_results import Front, RunResult, ScenarioResult, Score, Study, Summary, load_study

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

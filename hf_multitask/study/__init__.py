"""Comparison of freezing scenarios that are trained on the same data."""

from .race import RaceProgress, run_race
from .race_results import Price, Race
from .run import run_study
from .scenarios import Scenario, list_scenarios
from .study_results import Front, RunResult, ScenarioResult, Score, Study, Summary, load_study

__all__ = [
    "Front",
    "Price",
    "Race",
    "RaceProgress",
    "RunResult",
    "Scenario",
    "ScenarioResult",
    "Score",
    "Study",
    "Summary",
    "list_scenarios",
    "load_study",
    "run_race",
    "run_study",
]

"""Freezing layer groups of a model: schedules, and the callbacks that follow them while a Trainer trains."""

from .apply import freeze
from .callback import FreezeCallback
from .converged import Converged
from .presets import FreezeSpec, build_schedule
from .schedule import FreezeSchedule, Protection
from .stage import FreezeStage, OnWorse, Until
from .trainer_callback import MultiTaskFreezeCallback

__all__ = [
    "Converged",
    "FreezeCallback",
    "FreezeSchedule",
    "FreezeSpec",
    "FreezeStage",
    "MultiTaskFreezeCallback",
    "OnWorse",
    "Protection",
    "Until",
    "build_schedule",
    "freeze",
]

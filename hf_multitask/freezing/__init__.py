"""Freezing groups of a model: what, when, and how it is kept right while a Trainer trains."""

from .apply import freeze
from .callback import FreezeCallback
from .presets import FreezeSpec, build_schedule
from .schedule import FreezeSchedule, FreezeStage, OnWorse, Protection, Until
from .trainer_callback import MultiTaskFreezeCallback

__all__ = [
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

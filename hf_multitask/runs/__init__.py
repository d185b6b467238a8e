"""Runs: from a config to a model directory, its plan, or its scores."""

from ..reports.review import Review
from .averaging import AveragedModel, average_models
from .build import build_trainer
from .calibration import calibrate_model
from .config import RunConfig
from .distillation import DistillConfig
from .evaluation import evaluate_model, run_evaluation
from .folds import cross_validate
from .inspection import inspect_data
from .lora import LoraSettings
from .output_dir import find_last_checkpoint, has_unfinished_folds
from .review import review_rows, review_training_rows
from .training import run_plan, run_training

__all__ = [
    "AveragedModel",
    "DistillConfig",
    "LoraSettings",
    "Review",
    "RunConfig",
    "average_models",
    "build_trainer",
    "calibrate_model",
    "cross_validate",
    "evaluate_model",
    "find_last_checkpoint",
    "has_unfinished_folds",
    "inspect_data",
    "review_rows",
    "review_training_rows",
    "run_evaluation",
    "run_plan",
    "run_training",
]

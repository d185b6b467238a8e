"""Runs: from a config to a model directory, its plan, or its scores."""

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
from .training import run_plan, run_training

__all__ = [
    "AveragedModel",
    "DistillConfig",
    "LoraSettings",
    "RunConfig",
    "average_models",
    "build_trainer",
    "calibrate_model",
    "cross_validate",
    "evaluate_model",
    "find_last_checkpoint",
    "has_unfinished_folds",
    "inspect_data",
    "run_evaluation",
    "run_plan",
    "run_training",
]

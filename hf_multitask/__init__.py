"""One encoder, several jobs: multi-task training, inference and freezing on the Hugging Face Trainer.

Importing the package registers its config, model and pipeline with transformers. Modules for training are imported on
first use, which keeps the import fast for prediction.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import DataConfig, MultiTaskDataCollator, PreparedData, Sampling, prepare_datasets
    from .freezing import FreezeCallback, FreezeSchedule, FreezeStage, freeze
    from .models import MultiTaskConfig, MultiTaskModel, MultiTaskOutput, TaskConfig, load_tokenizer
    from .models.pipeline_multitask import MultiTaskPipeline
    from .probing import probe_layers
    from .recommendation import recommend_schedule
    from .runs import RunConfig, average_models, run_evaluation, run_training
    from .study import load_study, run_race, run_study
    from .training.arguments import MultiTaskTrainingArguments
    from .training.contrastive import ContrastiveCallback, ContrastiveConfig
    from .training.distillation import Distillation
    from .training.metrics import build_compute_metrics
    from .training.settings import choose_settings
    from .training.teacher_targets import add_teacher_targets
    from .training.trainer import MultiTaskTrainer

__version__ = "0.1.0"

_LAZY = {
    "ContrastiveCallback": "training.contrastive",
    "ContrastiveConfig": "training.contrastive",
    "DataConfig": "data",
    "Distillation": "training.distillation",
    "FreezeCallback": "freezing",
    "FreezeSchedule": "freezing",
    "FreezeStage": "freezing",
    "MultiTaskDataCollator": "data",
    "MultiTaskConfig": "models",
    "MultiTaskModel": "models",
    "MultiTaskOutput": "models",
    "MultiTaskPipeline": "models.pipeline_multitask",
    "MultiTaskTrainer": "training.trainer",
    "MultiTaskTrainingArguments": "training.arguments",
    "PreparedData": "data",
    "RunConfig": "runs",
    "Sampling": "data",
    "TaskConfig": "models",
    "add_teacher_targets": "training.teacher_targets",
    "average_models": "runs",
    "build_compute_metrics": "training.metrics",
    "choose_settings": "training.settings",
    "freeze": "freezing",
    "prepare_datasets": "data",
    "load_study": "study",
    "load_tokenizer": "models",
    "probe_layers": "probing",
    "recommend_schedule": "recommendation",
    "run_evaluation": "runs",
    "run_race": "study",
    "run_study": "study",
    "run_training": "runs",
}

__all__ = [
    "ContrastiveCallback",
    "ContrastiveConfig",
    "DataConfig",
    "Distillation",
    "FreezeCallback",
    "FreezeSchedule",
    "FreezeStage",
    "MultiTaskConfig",
    "MultiTaskDataCollator",
    "MultiTaskModel",
    "MultiTaskOutput",
    "MultiTaskPipeline",
    "MultiTaskTrainer",
    "MultiTaskTrainingArguments",
    "PreparedData",
    "RunConfig",
    "Sampling",
    "TaskConfig",
    "add_teacher_targets",
    "average_models",
    "build_compute_metrics",
    "choose_settings",
    "freeze",
    "load_study",
    "load_tokenizer",
    "prepare_datasets",
    "probe_layers",
    "recommend_schedule",
    "run_evaluation",
    "run_race",
    "run_study",
    "run_training",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return all names, for completion."""
    return sorted({*globals(), *__all__})


def _is_command_line() -> bool:
    """Return whether this process runs the command line, which imports what a command needs."""
    program = sys.argv[0] if sys.argv else ""
    return Path(program).stem == "hf-multitask" or (program == "-m" and __name__ in sys.orig_argv)


if not _is_command_line():
    import_module(".models", __name__)  # registers them

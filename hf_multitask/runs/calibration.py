"""Calibration of the scores of a model: at the end of a run, and of a saved model later."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import PreparedData
from ..models import find_model, load_model
from ..models.tasks import REGRESSION
from ..models.type_aliases import Row
from ..runtime.atomic_files import write_json
from ..training.score_fits import has_thresholds
from ..training.temperature import TemperatureFit
from ..training.trainer import MultiTaskTrainer
from .evaluation import evaluating

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"


def calibrate_run(trainer: MultiTaskTrainer, data: PreparedData, is_wanted: bool) -> None:
    """Fit temperatures and thresholds of a finished training on validation; without it, log why nothing is fitted.

    Args:
        trainer: The trainer.
        data: The data.
        is_wanted: Whether the config asks for temperatures.
    """
    validation = data.get("validation")
    calibrates = is_wanted and not all(task.problem_type == REGRESSION for task in trainer.tasks)
    fits_thresholds = has_thresholds(trainer.tasks)
    if validation and (calibrates or fits_thresholds):
        trainer.fit_scores(validation, calibrates, fits_thresholds)
    elif calibrates:
        logger.info("Scores are not calibrated: there is no validation split to fit temperatures on.")
    if not validation and any(task.abstain is not None for task in trainer.tasks):
        logger.warning("No task abstains: there is no validation split to fit thresholds on.")
    if not validation and any(task.entity_precision is not None for task in trainer.tasks):
        logger.warning("entity_precision has no effect: there is no validation split to fit min_score on.")


def calibrate_model(
    model_dir: str | Path, data: str | Path | Sequence[Row], batch_size: int = 64, **options: Any
) -> dict[str, TemperatureFit]:
    """Fit the temperatures and thresholds of a saved model, and write both into its config.

    The thresholds are those of tasks that abstain, and the minimum scores of tasks with ``entity_precision``.

    Weights, labels and other files stay as they are. An ONNX graph of the model has the temperatures that it was
    exported with; the pipeline uses those of the config.

    Args:
        model_dir: Folder of the model.
        data: Labeled rows that the model was not trained on, such as those of validation: a file or rows.
        batch_size: Rows per batch and device.
        options: More fields of `DataConfig`, such as ``columns``.

    Returns:
        The fit by task, without tasks that the rows have no labels for.

    Raises:
        ValueError: If the model is not in a folder, or the data is invalid.
    """
    path = Path(model_dir, CONFIG_NAME)
    if not path.is_file():
        raise ValueError(f"calibrate: expected a folder with a model, found {str(model_dir)!r}.")
    model, tokenizer = load_model(find_model(model_dir))
    with evaluating(model, tokenizer, data, batch_size, **options) as (trainer, prepared):
        fits = trainer.fit_scores(prepared["test"], thresholds=has_thresholds(trainer.tasks)).temperatures
        by_name = {task.name: task for task in trainer.tasks}
        is_writing = trainer.is_world_process_zero()
    if is_writing and fits:
        config = json.loads(path.read_text(encoding="utf-8"))
        for task in config["tasks"]:
            fitted = by_name[task["name"]]
            task["temperature"] = fitted.temperature
            for name in ("abstain", "min_score"):
                if getattr(fitted, name) is not None:
                    task[name] = getattr(fitted, name)
        write_json(path, config)
    return fits

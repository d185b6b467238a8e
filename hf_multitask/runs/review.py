"""Labeled rows for a person to look at: mistakes of a model, and labels that are most likely wrong."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import PredictionOutput

from ..data import PreparedData
from ..models import load_model
from ..models.losses import IGNORE_INDEX
from ..models.type_aliases import Row
from ..reports.label_issues import EXTRA
from ..reports.review import Review
from ..reports.split_result import SplitResult
from ..runtime.extras import check_packages
from .build import load_parts
from .chosen_settings import completed_config, settings_of
from .config import RunConfig
from .evaluation import score_rows
from .folds import train_folds

# As many as cleanlab recommends.
FOLDS = 5
TRAININGS_FOLDER = "_label_issues"


def review_rows(
    model_dir: str | Path,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    revision: str | None = None,
    **options: Any,
) -> Review:
    """Let a saved model answer labeled rows that it was not trained on, to list its mistakes and wrong labels.

    Args:
        model_dir: Folder or hub name of the model.
        data: File or rows.
        batch_size: Rows per batch and device.
        revision: Branch, tag or commit of a model on the hub.
        options: See `run_evaluation`.

    Returns:
        The review.

    Raises:
        ValueError: If the data is invalid, or the model cannot be loaded.
    """
    model, tokenizer = load_model(model_dir, revision=revision)
    return Review(model.config.tasks, score_rows(model, tokenizer, data, batch_size, **options))


def review_training_rows(
    config: RunConfig, folds: int | None = None, callbacks: Sequence[TrainerCallback] = ()
) -> Review:
    """Let models answer the training rows of a config that they were not trained on, to find wrong labels.

    The rows are divided into folds; a model is trained for each, on the rows of the other folds. ``validation`` and
    ``test`` are not used. The trainings write to a folder in ``output_dir``, which is removed.

    Args:
        config: Config of a run.
        folds: Number of folds. Defaults to ``data.folds`` of the config, or else to 5.
        callbacks: More callbacks of the trainers.

    Returns:
        The review, whose rows are those of train, in order; those of several datasets one after the other.

    Raises:
        ImportError: If cleanlab is not installed.
        ValueError: If the config or the data is invalid, or train is streamed.
    """
    check_packages(EXTRA, "a list of wrong labels")
    output_dir = Path(config.output_dir)
    folder, is_new = output_dir / TRAININGS_FOLDER, not output_dir.exists()
    config = with_folds(replace(config, output_dir=str(folder)), folds)
    parts = load_parts(config)
    config, data = completed_config(config, settings_of(config, parts.facts)), parts.data
    del parts
    found: list[SplitResult] = []
    try:
        train_folds(config, data, callbacks=callbacks, on_scored=found.append)
    finally:
        _remove(output_dir if is_new else folder)
    return Review(data.tasks, join_folds(data, found))


def with_folds(config: RunConfig, folds: int | None) -> RunConfig:
    """Return a config whose only split is train, in folds.

    Args:
        config: Config of a run.
        folds: Number of folds, see `review_training_rows`.

    Raises:
        ValueError: If train is streamed.
    """
    data = [
        replace(one, validation=None, test=None, validation_split=None, folds=folds or one.folds or FOLDS)
        for one in config.data_configs
    ]
    return replace(config, data=data)


def join_folds(data: PreparedData, results: Sequence[SplitResult]) -> SplitResult:
    """Join the results of all folds to one of the training rows, in their order.

    Args:
        data: The data, with folds.
        results: Result of each fold.

    Returns:
        The result, without metrics.

    Raises:
        ValueError: If the data has no folds.
    """
    if data.folds is None:
        raise ValueError("data.folds is missing; expected a number of folds, such as 5.")
    order = np.argsort(np.concatenate([data.folds.rows(number) for number in range(data.folds.number)]))
    names = [task.name for task in data.tasks]
    predictions = {
        name: _joined_values([result.output.predictions[name] for result in results], order) for name in names
    }
    labels = {name: _joined([result.output.label_ids[name] for result in results], order) for name in names}
    # The Trainer's annotations have arrays where those of several tasks are mappings.
    output: Any = PredictionOutput(predictions, labels, {})  # type: ignore[arg-type]
    return SplitResult({}, output, data.folds.texts)


def _remove(folder: Path) -> None:
    """Remove a folder when all processes are done with it."""
    state = PartialState()
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)


def _joined_values(folds: Sequence[Mapping[str, np.ndarray]], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: _joined([values[name] for values in folds], order) for name in folds[0]}


def _joined(folds: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Concatenate values of rows, which may be padded to different numbers of words, and sort the rows."""
    if folds[0].ndim > 1:
        width = max(values.shape[1] for values in folds)
        folds = [
            np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=IGNORE_INDEX) for values in folds
        ]
    return np.concatenate(folds)[order]

"""Scores of a model on labeled rows."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data import PreparedData, prepare_datasets
from ..data.config import data_configs
from ..models import MultiTaskModel, load_model
from ..models.type_aliases import Row
from ..reports.split_result import SplitResult
from ..runtime.training_history import select_metrics
from ..training.arguments import MultiTaskTrainingArguments
from ..training.metrics import reported_metric_names
from ..training.trainer import MultiTaskTrainer


def run_evaluation(
    model_dir: str | Path,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    revision: str | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score a saved model on labeled rows.

    Args:
        model_dir: Folder or hub name of the model.
        data: File or rows.
        batch_size: Rows per batch and device.
        revision: Branch, tag or commit of a model on the hub.
        options: More fields of `DataConfig`, such as ``columns``, or ``tasks`` to score only the tasks that the rows
            have labels for.

    Returns:
        The metrics.

    Raises:
        ValueError: If the data is invalid, or the model cannot be loaded.
    """
    return evaluate_model(*load_model(model_dir, revision=revision), data, batch_size, **options)


def evaluate_model(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    **options: Any,
) -> dict[str, float]:
    """Score a loaded model on labeled rows.

    Texts are cut or windowed as in training, unless ``options`` say otherwise.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: File or rows.
        batch_size: Rows per batch and device.
        options: See `run_evaluation`.

    Returns:
        The metrics.

    Raises:
        ValueError: If the data is invalid.
    """
    return dict(score_rows(model, tokenizer, data, batch_size, **options).metrics)


def score_rows(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    **options: Any,
) -> SplitResult:
    """Score a loaded model on labeled rows, as `evaluate_model` does.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: File or rows.
        batch_size: Rows per batch and device.
        options: See `run_evaluation`.

    Returns:
        The metrics, the predictions and the labels.

    Raises:
        ValueError: If the data is invalid.
    """
    with evaluating(model, tokenizer, data, batch_size, **options) as (trainer, prepared):
        return score_split(trainer, prepared, "test")


@contextmanager
def evaluating(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path | Sequence[Row],
    batch_size: int = 64,
    **options: Any,
) -> Iterator[tuple[MultiTaskTrainer, PreparedData]]:
    """Return a trainer for a loaded model, and labeled rows as its split ``test``.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: File or rows.
        batch_size: Rows per batch and device.
        options: See `run_evaluation`.

    Raises:
        ValueError: If the data is invalid.
    """
    subword = next((task.label_subword for task in model.config.tasks if task.is_token_task), "first")
    as_trained = {"overlap": model.config.overlap, "truncate": model.config.truncate, "label_subwords": subword}
    options = {**as_trained, **options}
    prepared = prepare_datasets(data_configs({"test": data}, options), tokenizer, model.config.tasks)
    with tempfile.TemporaryDirectory() as unused:
        arguments = MultiTaskTrainingArguments(
            output_dir=unused, per_device_eval_batch_size=batch_size, report_to="none"
        )
        trainer = MultiTaskTrainer(model=model, args=arguments, processing_class=tokenizer)
        yield trainer, prepared


def score_split(trainer: MultiTaskTrainer, data: PreparedData, split: str) -> SplitResult:
    """Predict a split and log its scores.

    Args:
        trainer: The trainer.
        data: The data.
        split: Name of the split.

    Returns:
        The predictions and the metrics of the tasks, without the split's prefix and without the trainer's timings.
    """
    # `evaluate` logs the same metrics but keeps no predictions.
    output = trainer.predict(data[split], metric_key_prefix=split)
    all_metrics = output.metrics or {}
    trainer.log(all_metrics)
    metrics = select_metrics(all_metrics, reported_metric_names(data.tasks), split)
    return SplitResult(metrics, output, data.texts[split])

"""Signs that a run has learned nothing, or not enough."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.labels.unseen_labels import seen_labels
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..reports.split_result import SplitResult
from ..runtime.training_history import LogEntry, TrainingHistory

# A validation loss that falls by more than this share in the last evaluation would go on falling.
STEEP_FALL = 0.1
# A run with fewer steps than this has hardly moved the weights, whatever its learning rates.
FEW_STEPS = 100


def find_problems(
    tasks: Sequence[TaskConfig], history: Sequence[LogEntry], steps: int, results: Mapping[str, SplitResult]
) -> list[str]:
    """Find signs that a run has learned nothing, or not enough.

    Args:
        tasks: The tasks.
        history: ``trainer.state.log_history``.
        steps: Number of optimizer steps.
        results: Results by split. Tasks are judged by validation, or by test without validation.

    Returns:
        A sentence for each sign; empty if there is none.
    """
    result = results.get("validation") or results.get("test")
    found = []
    if result is not None:
        found = [
            problem
            for task in tasks
            if result.has_labels(task) and (problem := _task_problem(task, result)) is not None
        ]
    falling = _falling_loss(TrainingHistory(history))
    if falling is not None:
        found.append(falling)
    if found and steps < FEW_STEPS:
        found.append(
            f"The run had only {steps} steps. More epochs, or a smaller per_device_train_batch_size, give it more."
        )
    return found


def _task_problem(task: TaskConfig, result: SplitResult) -> str | None:
    """Return how a task is no better than an answer that does not look at the text; None if it is better."""
    labeled = result.is_labeled(task)
    predictions, labels = result.predictions(task)[labeled], seen_labels(task, result.labels(task))[labeled]
    if task.is_token_task or task.problem_type == MULTI_LABEL:
        score = result.metrics[f"{task.name}_{'f1' if task.is_token_task else 'micro_f1'}"]
        if score == 0 and _has_positives(task, labels):
            kind = "entity" if task.is_token_task else "label"
            return f"Task {task.name!r} finds no {kind}: F1 is 0."
        return None
    if task.problem_type == REGRESSION:
        error, variance = np.nanmean((predictions - labels) ** 2), np.nanmean((labels - np.nanmean(labels, 0)) ** 2)
        if variance > 0 and error >= variance:
            return (
                f"Task {task.name!r} is no better than the mean: its squared error is {error:.3g}, that of the mean "
                f"{variance:.3g}."
            )
        return None
    ids, counts = np.unique(labels, return_counts=True)
    if len(ids) == 1:
        return None
    right, commonest = int((predictions == labels).sum()), int(counts.max())
    if right > commonest:
        return None
    name = task.id2label[int(ids[counts.argmax()])]
    return (
        f"Task {task.name!r} is no better than its commonest label: {right / len(labels):.1%} of the rows are right, "
        f"and {commonest / len(labels):.1%} have the label {name!r}."
    )


def _has_positives(task: TaskConfig, labels: np.ndarray) -> bool:
    if not task.is_token_task:
        return bool(np.nansum(labels) > 0)
    outside = task.label2id["O"]
    return bool(((labels != IGNORE_INDEX) & (labels != outside)).any())


def _falling_loss(history: TrainingHistory) -> str | None:
    """Return that the validation loss was still falling steeply at the end; None if it was not."""
    losses = [evaluation.metrics["loss"] for evaluation in history.evaluations() if "loss" in evaluation.metrics]
    if len(losses) < 2 or not losses[-1] < (1 - STEEP_FALL) * losses[-2]:
        return None
    return (
        f"The validation loss was still falling steeply at the end, from {losses[-2]:.3g} to {losses[-1]:.3g} in the "
        "last two evaluations. More epochs would lower it."
    )

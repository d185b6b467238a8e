"""Losses as sums and counts, so that each task's mean is right whatever is missing, padded or accumulated."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from .tasks import MULTI_LABEL, REGRESSION, TaskConfig

IGNORE_INDEX = -100


def is_labelled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Tell which items of a batch count for a task's loss.

    Args:
        task: The task.
        labels: The batch's labels. Missing ones are `IGNORE_INDEX`, or NaN where labels are numbers.

    Returns:
        Booleans of the shape of ``labels``.
    """
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return ~labels.isnan()
    return labels != IGNORE_INDEX


def count_labelled(task: TaskConfig, labels: torch.Tensor) -> torch.Tensor:
    """Count the items of each example that count for a task's loss: (batch,)."""
    return is_labelled(task, labels).flatten(1).sum(1) if labels.dim() > 1 else is_labelled(task, labels).long()


def ignore_labels(tasks: Sequence[TaskConfig], labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return labels of the same shape that count for no loss.

    Args:
        tasks: The tasks.
        labels: The batch's labels by task.

    Returns:
        The labels by task.
    """
    ignored = {
        task.name: math.nan if task.problem_type in (MULTI_LABEL, REGRESSION) else IGNORE_INDEX for task in tasks
    }
    return {name: torch.full_like(value, ignored[name]) for name, value in labels.items()}


def example_losses(task: TaskConfig, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum a task's loss over the labelled items of each example.

    Cross entropy for one label of several, binary cross entropy for each of several labels, squared error for
    numbers.

    Args:
        task: The task.
        logits: Scores (batch, num_labels), or (batch, num_words, num_labels) for a token task.
        labels: Label ids (batch,) or (batch, num_words); numbers (batch, num_labels) for several labels and
            regression.

    Returns:
        Sums (batch,) in float32; 0 where an example has no label.
    """
    logits = logits.float()
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        labelled = is_labelled(task, labels)
        targets = labels.float().masked_fill(~labelled, 0.0)
        if task.problem_type == REGRESSION:
            losses = functional.mse_loss(logits, targets, reduction="none")
        else:
            losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.masked_fill(~labelled, 0.0).sum(1)
    losses = functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORE_INDEX
    )
    return losses.view(labels.size(0), -1).sum(1)

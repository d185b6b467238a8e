"""Constraints between tasks: entity types that occur with some labels of a text only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch

from .messages import unknown_name_message
from .tags_iob2 import entity_type
from .tasks import SINGLE_LABEL, TaskConfig

# Logit of an excluded tag. It is finite, so that sums and products of scores are never NaN, also in half precision.
EXCLUDED_LOGIT = -1e4


def check_constraints(tasks: Sequence[TaskConfig]) -> None:
    """Check that tasks are constrained by single-label tasks of the same model.

    Args:
        tasks: Tasks of the model.

    Raises:
        ValueError: If a task is constrained by an unknown task, by one of another kind or by unknown labels.
    """
    by_name = {task.name: task for task in tasks if not task.is_token_task}
    for task in tasks:
        if not task.constrained_by:
            continue
        if task.constrained_by not in by_name:
            message = unknown_name_message("sequence task", str(task.constrained_by), by_name)
            raise ValueError(f"task {task.name!r}: constrained_by: {message}")
        by = by_name[str(task.constrained_by)]
        if by.problem_type not in (None, SINGLE_LABEL):
            raise ValueError(
                f"task {task.name!r}: constrained_by must name a task with one label per text, found {by.name!r}, a "
                f"{by.problem_type}."
            )
        for label in task.types_by_label or {}:
            if by.labels is not None and label not in by.labels:
                message = unknown_name_message(f"label of {by.name!r} in types_by_label", label, by.labels)
                raise ValueError(f"task {task.name!r}: {message}")


def constraining_tasks(tasks: Iterable[TaskConfig]) -> list[str]:
    """Return the names of the tasks whose labels constrain some tasks."""
    return list(dict.fromkeys(task.constrained_by for task in tasks if isinstance(task.constrained_by, str)))


def without_lost_constraints(tasks: Sequence[TaskConfig]) -> list[TaskConfig]:
    """Return a selection of tasks without the constraints by tasks that are not among them."""
    names = [task.name for task in tasks]
    return [
        replace(task, constrained_by=False, types_by_label=None)
        if task.constrained_by and task.constrained_by not in names
        else task
        for task in tasks
    ]


def constrain_tags(tasks: Sequence[TaskConfig], logits: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return logits that give no tag a chance whose entity type cannot occur with the predicted label of its text.

    Args:
        tasks: Tasks of the model.
        logits: Logits by task: (batch, num_words, num_labels) of constrained tasks, (batch, num_labels) of those that
            constrain them.

    Returns:
        The logits of all tasks.
    """
    constrained = dict(logits)
    by_name = {task.name: task for task in tasks}
    for task in tasks:
        if task.constrained_by and task.types_by_label and task.name in logits:
            by = by_name[str(task.constrained_by)]
            types = tuple((label, tuple(kinds)) for label, kinds in task.types_by_label.items())
            excluded = _excluded_tags(tuple(task.labels or ()), tuple(by.labels or ()), types)
            labels = logits[by.name].argmax(dim=-1)
            mask = excluded.to(labels.device)[labels].unsqueeze(1)
            constrained[task.name] = logits[task.name].masked_fill(mask, EXCLUDED_LOGIT)
    return constrained


@lru_cache(maxsize=64)
def _excluded_tags(
    tags: tuple[str, ...], labels: tuple[str, ...], types_by_label: tuple[tuple[str, tuple[str, ...]], ...]
) -> torch.Tensor:
    """Return for each label whether it excludes each tag (labels, tags)."""
    kinds, allowed = [entity_type(tag) for tag in tags], dict(types_by_label)
    return torch.tensor(
        [[label in allowed and kind is not None and kind not in allowed[label] for kind in kinds] for label in labels]
    )

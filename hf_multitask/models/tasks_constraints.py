"""Constraints between tasks: entity types that occur with some labels of a text only."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch

from .messages import unknown_name_message
from .tags_iob2 import entity_type
from .tasks import SINGLE_LABEL, TaskConfig

# Added to the logit of a tag that never occurs. It is finite, so that scores are never NaN, also in half precision.
NEVER = -1e4


def check_constraints(tasks: Sequence[TaskConfig]) -> None:
    """Check that tasks are constrained by single-label tasks of the same model, and how.

    Args:
        tasks: Tasks of the model.

    Raises:
        ValueError: If a task is constrained by an unknown task, by one of another kind or by unknown labels, or has no
            ``types_by_label``.
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
        if task.types_by_label is None:
            raise ValueError(
                f"task {task.name!r}: constrained_by={by.name!r} has no types_by_label. `prepare_datasets` finds them "
                "in training rows with labels of both tasks: take the tasks that it returns. Without such rows, or if "
                "they are streamed, give types_by_label."
            )
        for label in task.types_by_label:
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
        without_constraint(task) if task.constrained_by and task.constrained_by not in names else task
        for task in tasks
    ]


def without_constraint(task: TaskConfig) -> TaskConfig:
    """Return a task that no other task constrains."""
    return replace(task, constrained_by=False, types_by_label=None, unseen_types_share=None)


def constrain_tags(tasks: Sequence[TaskConfig], logits: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Lower the logits of tags whose entity type was not seen with the predicted label of its text.

    The logarithm of the share of texts that have such a type is added: few rows say little, so that a tag of which the
    model is sure can still win; after many rows it cannot.

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
        if task.constrained_by and task.name in logits:
            by = by_name[str(task.constrained_by)]
            types = tuple((label, tuple(kinds)) for label, kinds in (task.types_by_label or {}).items())
            unseen = _unseen_tags(tuple(task.labels or ()), tuple(by.labels or ()), types)
            labels, share = logits[by.name].argmax(dim=-1), task.unseen_types_share
            change = unseen.to(labels.device)[labels].unsqueeze(1) * (math.log(share) if share else NEVER)
            constrained[task.name] = logits[task.name] + change.to(logits[task.name].dtype)
    return constrained


@lru_cache(maxsize=64)
def _unseen_tags(
    tags: tuple[str, ...], labels: tuple[str, ...], types_by_label: tuple[tuple[str, tuple[str, ...]], ...]
) -> torch.Tensor:
    """Return for each label whether each tag was not seen with it (labels, tags)."""
    kinds, allowed = [entity_type(tag) for tag in tags], dict(types_by_label)
    return torch.tensor(
        [[label in allowed and kind is not None and kind not in allowed[label] for kind in kinds] for label in labels]
    )

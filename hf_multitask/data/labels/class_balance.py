"""Class weights computed from the label counts of train."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...models.losses import IGNORE_INDEX
from ...models.tasks import MULTI_LABEL, TaskConfig
from ...models.tasks_class_weights import BALANCED


def label_counts(task: TaskConfig, labels: Sequence[Any]) -> tuple[dict[str, int], int]:
    """Count how often each label occurs.

    Args:
        task: The task, with its labels.
        labels: Encoded labels of each row, as `LabelEncoder` returns them.

    Returns:
        The counts by label, in rows, or in words for the tags of a token task; and the number of labeled rows.
    """
    names = task.labels or []
    if task.problem_type == MULTI_LABEL:
        rows = [row for row in labels if row[0] == row[0]]
        return {name: int(sum(row[i] for row in rows)) for i, name in enumerate(names)}, len(rows)
    if task.is_token_task:
        counts = Counter(tag for row in labels for tag in row if tag != IGNORE_INDEX)
        num_rows = sum(any(tag != IGNORE_INDEX for tag in row) for row in labels)
    else:
        counts = Counter(label for label in labels if label != IGNORE_INDEX)
        num_rows = counts.total()
    return {names[i]: count for i, count in counts.items()}, num_rows


def complete_class_weights(task: TaskConfig, counts: Mapping[str, int], num_rows: int) -> TaskConfig:
    """Replace balanced class weights with the weight of each label.

    For single-label and token tasks, a label gets ``n / (k * n_c)``, as with scikit-learn's
    ``class_weight="balanced"`` (King and Zeng 2001, Logistic Regression in Rare Events Data): ``n`` labeled items,
    ``k`` labels that occur, ``n_c`` items of the label. The mean weight over train is 1. For multi-label tasks, a
    label gets ``n_negative / n_positive`` for its presence. A label that no training row or every training row has
    gets 1.0.

    Args:
        task: The task, with its labels.
        counts: Counts of the labels in train: in rows, or in words for the tags of a token task. Labels that the task
            does not have are ignored.
        num_rows: Number of training rows with a label for the task. Only used for multi-label tasks.

    Returns:
        The task with the weight of every label; unchanged if its weights are not balanced.

    Raises:
        ValueError: If the task has no labels yet.
    """
    if task.class_weights != BALANCED:
        return task
    if task.labels is None:
        raise ValueError(f"task {task.name!r}: class_weights={BALANCED!r} needs the task's labels.")
    occurring = {label: counts[label] for label in task.labels if counts.get(label, 0) > 0}
    if task.problem_type == MULTI_LABEL:
        weights = {label: (num_rows - count) / count for label, count in occurring.items() if count < num_rows}
    else:
        num_items = sum(occurring.values())
        weights = {label: num_items / (len(occurring) * count) for label, count in occurring.items()}
    return dataclasses.replace(task, class_weights=weights)

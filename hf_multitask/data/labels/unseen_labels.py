"""Ids of labels that train lacks, so that evaluations count them as wrong and no loss counts them."""

import zlib

import numpy as np

from ...models.losses import IGNORE_INDEX, OUT_OF_SCOPE
from ...models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ...models.type_aliases import Row
from .values import class_name

# Name of a label that train lacks where its own name is not known.
UNSEEN = "not in train"
# Column of a row that belongs to no label of any task that abstains.
SCOPE_COLUMN = "_out_of_scope"
# Small enough that float32, the type of multi-label rows, has each id exactly.
_NUM_NAMES = 2**22


def unseen_id(task: TaskConfig, label: str) -> int:
    """Return the id of a label that its task does not have: a number below `IGNORE_INDEX`.

    It is a hash of the name, so that rows which are prepared apart agree about it. Tags have the hash of their entity
    type; the ids of B- tags are odd, those of I- tags even.

    Args:
        task: The task.
        label: Name of the label.
    """
    name = label[2:] if task.is_token_task else label
    is_inside = task.is_token_task and label.startswith("I-")
    return IGNORE_INDEX - 1 - 2 * (zlib.crc32(name.encode()) % _NUM_NAMES) - is_inside


def is_out_of_scope(task: TaskConfig, row: Row) -> bool:
    """Return whether a row is out of scope of a task: by its label, or because it is of a file of such rows."""
    if not task.has_scope:
        return False
    value = row.get(str(task.column))
    return SCOPE_COLUMN in row or (value is not None and class_name(value) == task.out_of_scope)


def is_unseen(labels: np.ndarray) -> np.ndarray:
    """Return which labels of rows are ids of unseen labels, with the shape of ``labels``."""
    return (labels < IGNORE_INDEX) & (labels != OUT_OF_SCOPE)


def in_scope_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels of rows, of which those that are out of scope are missing."""
    return np.where(labels == OUT_OF_SCOPE, IGNORE_INDEX, labels)


def seen_labels(task: TaskConfig, labels: np.ndarray) -> np.ndarray:
    """Return the labels of rows without the unseen ones, which become missing; for a multi-label task absent.

    Args:
        task: The task.
        labels: Labels as the collator returns them (rows, …).
    """
    if task.problem_type == MULTI_LABEL:
        return labels[:, : task.num_labels]
    return labels if task.problem_type == REGRESSION else np.maximum(labels, IGNORE_INDEX)


def tag_names(task: TaskConfig, ids: np.ndarray) -> list[str]:
    """Return the tags of some words by their ids. Unseen tags get the names ``B-not in train <number>`` and ``I-…``.

    Args:
        task: Token task.
        ids: Ids of tags, none of them missing (words).
    """
    names = task.labels or []
    return [names[i] if i >= 0 else _unseen_tag(i) for i in ids.tolist()]


def count_unseen(task: TaskConfig, labels: np.ndarray) -> int:
    """Count the unseen labels of rows, or the entities of unseen types for a token task.

    Args:
        task: The task.
        labels: Labels as the collator returns them (rows, …).
    """
    if not task.is_token_task:
        return 0 if task.problem_type == REGRESSION else int(is_unseen(labels).sum())
    # Tags are IOB2 by now, in which each entity begins with a B- tag.
    return int((is_unseen(labels) & (labels % 2 == 1)).sum())


def count_support(task: TaskConfig, labels: np.ndarray) -> dict[str, int]:
    """Count what the scores of a task are computed from.

    Args:
        task: The task.
        labels: Labels as the collator returns them (rows, …).

    Returns:
        The number of labeled ``rows``; for a token task, also of their labeled ``words`` and ``entities``.
    """
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return {"rows": int((~np.isnan(labels).any(axis=1)).sum())}
    labeled = labels != IGNORE_INDEX
    if not task.is_token_task:
        return {"rows": int(labeled.sum())}
    begins = [i for i, name in enumerate(task.labels or []) if name.startswith("B-")]
    entities = int(np.isin(labels, begins).sum()) + count_unseen(task, labels)
    return {"rows": int(labeled.any(axis=1).sum()), "words": int(labeled.sum()), "entities": entities}


def _unseen_tag(tag: int) -> str:
    return f"{'B' if tag % 2 else 'I'}-{UNSEEN} {(IGNORE_INDEX - 1 - tag) // 2}"

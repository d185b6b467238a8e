"""A task's main score row by row, so that runs can be compared on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities
from transformers.trainer_utils import PredictionOutput

from ..models import TaskConfig
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION
from ..reports.training_curves import main_metric


@dataclass(frozen=True)
class RowScores:
    """What each row adds to a score: the score is the sum of the numerators by that of the denominators.

    Accuracy: 1 if a row is right, and 1. F1 of entities: twice those that are found rightly, and those found and those
    there are. Mean absolute error: the error, and 1. A row without a label adds nothing.

    Args:
        numerators: By row.
        denominators: By row.
    """

    numerators: list[float]
    denominators: list[float]


def metric_name(task: TaskConfig) -> str:
    """Return the name of a task's main metric, with that of the task in front."""
    return f"{task.name}_{main_metric(task)}"


def row_scores(output: PredictionOutput, tasks: Sequence[TaskConfig]) -> dict[str, RowScores]:
    """Score each row by task.

    Args:
        output: What ``MultiTaskTrainer.predict`` returns.
        tasks: The tasks.

    Returns:
        The scores of the rows by task; a task without a label in any row is left out.
    """
    scores = {}
    for task in tasks:
        numerators, denominators = _score(task, output.predictions[task.name]["ids"], output.label_ids[task.name])
        if denominators.any():
            scores[task.name] = RowScores(numerators.tolist(), denominators.tolist())
    return scores


def _score(task: TaskConfig, ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if task.is_token_task:
        return _entities(task, ids, labels)
    if task.problem_type == REGRESSION:
        labelled = ~np.isnan(labels).any(axis=1)
        return np.where(labelled, np.abs(ids - np.nan_to_num(labels)).mean(axis=1), 0.0), labelled.astype(int)
    if task.problem_type == MULTI_LABEL:
        labelled = ~np.isnan(labels).any(axis=1)
        return (labelled & (ids == labels).all(axis=1)).astype(int), labelled.astype(int)
    labelled = labels != IGNORE_INDEX
    return (labelled & (ids == labels)).astype(int), labelled.astype(int)


def _entities(task: TaskConfig, ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count, row by row, twice the entities that are found rightly, and all of both sides."""
    names = np.array(task.labels)
    kept = labels != IGNORE_INDEX
    counts = np.zeros((2, len(labels)), dtype=int)
    for i in np.flatnonzero(kept.any(axis=1)):
        found = set(get_entities(names[ids[i][kept[i]]].tolist()))
        gold = set(get_entities(names[labels[i][kept[i]]].tolist()))
        counts[:, i] = 2 * len(found & gold), len(found) + len(gold)
    return counts[0], counts[1]


def as_arrays(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numerators and denominators of several runs' rows, each (num_runs, num_rows)."""
    numerators = np.array([run["numerators"] for run in rows], dtype=float)
    return numerators, np.array([run["denominators"] for run in rows], dtype=float)

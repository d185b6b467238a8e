"""Main score of a task as sums over rows, so that runs can be compared on the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities

from ..data.labels.unseen_labels import in_scope_labels, tag_names
from ..models import TaskConfig
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION
from ..reports.training_curves import main_metric
from ..training.metrics import rows_right


@dataclass(frozen=True)
class RowScores:
    """Contribution of each row to a score, which is the sum of the numerators divided by the sum of the denominators.

    Accuracy: 1 if the row is right, over 1. F1 of entities: twice the number of entities predicted correctly, over the
    number predicted plus the number labeled. Mean absolute error: the error, over 1. A row without labels adds 0 to
    both.

    Args:
        numerators: Numerator of each row.
        denominators: Denominator of each row.
    """

    numerators: list[float]
    denominators: list[float]


def metric_name(task: TaskConfig) -> str:
    """Return the name of a task's main metric, prefixed with the name of the task."""
    return f"{task.name}_{main_metric(task)}"


def row_scores(output: Any, tasks: Sequence[TaskConfig]) -> dict[str, RowScores]:
    """Score each row, by task.

    Args:
        output: Output of ``MultiTaskTrainer.predict``, with mappings by task where transformers declares arrays.
        tasks: The tasks.

    Returns:
        Scores of the rows by task; a task without a label in any row is left out.
    """
    scores = {}
    for task in tasks:
        labels = in_scope_labels(output.label_ids[task.name])
        numerators, denominators = _score_rows(task, output.predictions[task.name]["ids"], labels)
        if denominators.any():
            scores[task.name] = RowScores(numerators.tolist(), denominators.tolist())
    return scores


def _score_rows(task: TaskConfig, ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if task.is_token_task:
        return _score_entities(task, ids, labels)
    if task.problem_type == REGRESSION:
        labeled = ~np.isnan(labels).any(axis=1)
        return np.where(labeled, np.abs(ids - np.nan_to_num(labels)).mean(axis=1), 0.0), labeled.astype(int)
    if task.problem_type == MULTI_LABEL:
        right = rows_right(task, ids, labels)
        return (right == 1).astype(int), (right >= 0).astype(int)
    labeled = labels != IGNORE_INDEX
    return (labeled & (ids == labels)).astype(int), labeled.astype(int)


def _score_entities(task: TaskConfig, ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, per row, twice the number of correct entities, and the number of predicted plus labeled entities."""
    mask = labels != IGNORE_INDEX
    counts = np.zeros((2, len(labels)), dtype=int)
    for i in np.flatnonzero(mask.any(axis=1)):
        predicted = set(get_entities(tag_names(task, ids[i][mask[i]])))
        gold = set(get_entities(tag_names(task, labels[i][mask[i]])))
        counts[:, i] = 2 * len(predicted & gold), len(predicted) + len(gold)
    return counts[0], counts[1]


def spread_scores(scores: RowScores, rows: Sequence[int], num_rows: int) -> RowScores:
    """Return the scores of some rows as scores of all, of which the others add nothing.

    Args:
        scores: Scores of the rows.
        rows: Their indexes.
        num_rows: Number of all rows.
    """
    spread = np.zeros((2, num_rows))
    spread[:, list(rows)] = scores.numerators, scores.denominators
    return RowScores(*spread.tolist())


def stack_scores(runs: Sequence[RowScores]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numerators and the denominators of several runs, each (num_runs, num_rows)."""
    numerators = np.array([scores.numerators for scores in runs], dtype=float)
    return numerators, np.array([scores.denominators for scores in runs], dtype=float)

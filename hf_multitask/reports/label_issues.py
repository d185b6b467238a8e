"""Rows whose given label is most likely wrong, by confident learning (Northcutt et al. 2021) with cleanlab.

The probabilities must come from a model that was not trained on the rows. An evaluation keeps the probabilities of the
given and of the predicted label, not those of all labels: the rest is spread evenly over the others. Label quality and
the thresholds of the classes depend on the probability of the given label only, so they do not change by this.
"""

from typing import NamedTuple

import numpy as np

from ..data.annotation_records import TextLabel
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..runtime.extras import check_packages
from .row_labels import given_labels, predicted_labels
from .split_result import SplitResult

EXTRA = "label-issues"
# Share of the labeled rows of a task that a list has at least.
SHARE = 0.04
# The confident joint counts the labels that the model confidently contradicts; as many of the least probable ones are
# found. Of several labels per row, these labels themselves.
_FILTER, _SET_FILTER = "low_self_confidence", "confident_learning"
# Probabilities of no label are exactly 0.
_SMALLEST = 1e-6


class LabelIssue(NamedTuple):
    """A row whose given label is most likely wrong.

    Args:
        task: Name of the task.
        row: Index of the row.
        quality: Probability of the given label, from 0 to 1; of a token task, of the least probable tag of the row; of
            a multi-label task, a mean over the labels in which the least probable ones count most.
        given: Given labels.
        predicted: Predicted labels.
        words: Indices of the words whose tags are most likely wrong, for a token task.
        is_confident: Whether confident learning finds the label wrong. Otherwise it is only among the least probable.
    """

    task: str
    row: int
    quality: float
    given: list[TextLabel]
    predicted: list[TextLabel]
    words: list[int]
    is_confident: bool


class LabelRanking(NamedTuple):
    """Label quality of the labeled rows of a task.

    Args:
        rows: Indices of the rows, the lowest quality first.
        quality: Quality of the labels of each, see `LabelIssue`.
        is_issue: Whether the labels of each are most likely wrong.
        words: By row, the words of a token task whose tags are most likely wrong.
    """

    rows: np.ndarray
    quality: np.ndarray
    is_issue: np.ndarray
    words: dict[int, list[int]]


def find_label_issues(task: TaskConfig, result: SplitResult, share: float = 0.0) -> list[LabelIssue]:
    """Find the rows whose given label is most likely wrong, the least probable labels first.

    Args:
        task: The task.
        result: Result of a model on rows that it was not trained on.
        share: Share of the labeled rows to list at least.

    Returns:
        The rows; none for a regression.

    Raises:
        ImportError: If cleanlab is not installed.
    """
    ranking = rank_labels(task, result)
    least = round(share * len(ranking.rows))
    return [
        LabelIssue(
            task.name,
            row,
            quality,
            given_labels(task, result, row),
            predicted_labels(task, result, row),
            ranking.words.get(row, []),
            is_issue,
        )
        for place, (row, quality, is_issue) in enumerate(
            zip(*(values.tolist() for values in ranking[:3]), strict=True)
        )
        if is_issue or place < least
    ]


def rank_labels(task: TaskConfig, result: SplitResult) -> LabelRanking:
    """Sort the labeled rows of a task by the quality of their labels.

    Labels that the model does not have, and scores that are not numbers, are left out.

    Args:
        task: The task.
        result: See `find_label_issues`.

    Returns:
        The ranking; of no rows for a regression.

    Raises:
        ImportError: If cleanlab is not installed.
    """
    check_packages(EXTRA, "a list of wrong labels")
    if task.problem_type == REGRESSION:
        return _sorted(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    if task.is_token_task:
        return _rank_tags(task, result)
    return _rank_label_sets(task, result) if task.problem_type == MULTI_LABEL else _rank_labels(task, result)


def _sorted(
    rows: np.ndarray, quality: np.ndarray, is_issue: np.ndarray, words: dict[int, list[int]] | None = None
) -> LabelRanking:
    order = np.argsort(quality, kind="stable")
    return LabelRanking(rows[order], quality[order], is_issue[order], words or {})


def _rank_labels(task: TaskConfig, result: SplitResult) -> LabelRanking:
    from cleanlab.rank import get_label_quality_scores

    labels = result.labels(task)
    rows = np.flatnonzero((labels >= 0) & np.isfinite(result.given_scores(task)))
    if not len(rows):
        return _sorted(rows, np.zeros(0), np.zeros(0, bool))
    given = labels[rows]
    probabilities = spread_probabilities(
        task.num_labels,
        given,
        result.given_scores(task)[rows],
        result.predictions(task)[rows],
        result.scores(task)[rows],
    )
    return _sorted(rows, get_label_quality_scores(given, probabilities), _issues(given, probabilities))


def _rank_label_sets(task: TaskConfig, result: SplitResult) -> LabelRanking:
    from cleanlab.multilabel_classification import get_label_quality_scores
    from cleanlab.multilabel_classification.filter import find_label_issues as find_issues

    known = result.labels(task)[:, : task.num_labels]
    rows = np.flatnonzero(~np.isnan(known).any(axis=1) & np.isfinite(result.scores(task)).all(axis=1))
    if not len(rows):
        return _sorted(rows, np.zeros(0), np.zeros(0, bool))
    given = [np.flatnonzero(row > 0).tolist() for row in known[rows]]
    probabilities = result.scores(task)[rows].astype(np.float64)
    is_issue = find_issues(given, probabilities, filter_by=_SET_FILTER, n_jobs=1)
    return _sorted(rows, get_label_quality_scores(given, probabilities), is_issue)


def _rank_tags(task: TaskConfig, result: SplitResult) -> LabelRanking:
    from cleanlab.token_classification.rank import get_label_quality_scores

    labels = result.labels(task)
    rows, words = np.nonzero((labels >= 0) & np.isfinite(result.given_scores(task)))
    if not len(rows):
        return _sorted(rows, np.zeros(0), np.zeros(0, bool))
    given, ids = labels[rows, words], result.predictions(task)[rows, words]
    probabilities = spread_probabilities(
        task.num_labels, given, result.given_scores(task)[rows, words], ids, result.scores(task)[rows, words]
    )
    labeled_rows, starts = np.unique(rows, return_index=True)
    by_row = [np.split(values, starts[1:]) for values in (given, probabilities)]
    quality, _ = get_label_quality_scores([row.tolist() for row in by_row[0]], by_row[1])
    found: dict[int, list[int]] = {}
    for item in np.flatnonzero(_issues(given, probabilities)).tolist():
        found.setdefault(int(rows[item]), []).append(int(words[item]))
    return _sorted(labeled_rows, np.asarray(quality), np.isin(labeled_rows, list(found)), found)


def _issues(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether each label is most likely wrong."""
    from cleanlab.filter import find_label_issues as find_issues

    if len(np.unique(given)) < 2:
        # Confident learning compares classes.
        return np.zeros(len(given), bool)
    return find_issues(given, probabilities, filter_by=_FILTER, n_jobs=1)


def spread_probabilities(
    num_labels: int, given: np.ndarray, given_scores: np.ndarray, predicted: np.ndarray, predicted_scores: np.ndarray
) -> np.ndarray:
    """Return probabilities of all labels: those of the given and the predicted one, and the rest spread evenly.

    Args:
        num_labels: Number of labels.
        given: Given labels (items,).
        given_scores: Their probabilities.
        predicted: Predicted labels (items,).
        predicted_scores: Their probabilities.

    Returns:
        Probabilities (items, num_labels) whose rows sum to 1.
    """
    items = np.arange(len(given))
    given_scores, predicted_scores = given_scores.astype(np.float64), predicted_scores.astype(np.float64)
    is_same = given == predicted
    named = np.where(is_same, given_scores, given_scores + predicted_scores)
    others = np.maximum(num_labels - np.where(is_same, 1, 2), 1)
    rest = np.clip(1 - named, _SMALLEST, None) / others
    probabilities = np.repeat(rest[:, None], num_labels, axis=1)
    probabilities[items, predicted] = predicted_scores
    probabilities[items, given] = given_scores
    return probabilities / probabilities.sum(axis=1, keepdims=True)

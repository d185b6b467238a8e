"""Calibration of scores: expected calibration error, Brier score and negative log-likelihood by task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..data.labels.unseen_labels import tag_names
from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import TagSpan, tag_spans
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig

CALIBRATION_ERROR = "ece"
CALIBRATION_METRICS = (CALIBRATION_ERROR, "brier", "nll")
NUM_BINS = 15
# Scores of 0 and 1 have a finite loss.
_SMALLEST = 1e-12


class Confidences(NamedTuple):
    """Probabilities of events, and whether they occurred.

    Args:
        scores: Probabilities (items,).
        right: 1 if the event occurred, else 0 (items,).
    """

    scores: np.ndarray
    right: np.ndarray


class Bins(NamedTuple):
    """Items in bins, from the lowest scores to the highest.

    Args:
        scores: Mean score of each bin.
        right: Share of each bin that is right.
        sizes: Number of items of each bin.
    """

    scores: np.ndarray
    right: np.ndarray
    sizes: np.ndarray


def equal_mass_bins(confidences: Confidences, num_bins: int = NUM_BINS) -> Bins:
    """Divide items, sorted by score, into bins of the same number of items, give or take one.

    Args:
        confidences: The items.
        num_bins: Number of bins; fewer if there are fewer items.
    """
    order = np.argsort(confidences.scores, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    means = [[values[part].mean(dtype=np.float64) for part in parts] for values in confidences]
    return Bins(np.array(means[0]), np.array(means[1]), np.array([len(part) for part in parts]))


def expected_calibration_error(confidences: Confidences) -> float:
    """Return the mean over items of the distance between the mean score of their bin and its share of right ones.

    Naeini et al. 2015 with `NUM_BINS` bins of equal mass (Nguyen and O'Connor 2015), not of equal width. 0 without
    items.

    Args:
        confidences: The items.
    """
    if not len(confidences.scores):
        return 0.0
    bins = equal_mass_bins(confidences)
    return float(np.average(np.abs(bins.scores - bins.right), weights=bins.sizes))


def calibration_metric_names(task: TaskConfig) -> tuple[str, ...]:
    """Return the names of the metrics of `calibration_scores`; none for a regression."""
    return () if task.problem_type == REGRESSION else CALIBRATION_METRICS


def calibration_scores(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Measure how well the scores of a task are calibrated.

    Args:
        task: The task.
        values: Reduced predictions of the task, see `reduce_predictions`.
        labels: Labels as the collator returns them (rows, …). Labels that train lacks are left out.

    Returns:
        ``ece``, the `expected_calibration_error`; ``brier``, the Brier score; ``nll``, the mean negative
        log-likelihood. Of a single-label task, the items of ``ece`` are the predicted labels, and ``brier`` and
        ``nll`` are of all labels of a row (Brier 1950: the squared errors are summed over the labels). Of a
        multi-label task, the items of all three are the labels of each row. Of a token task, they are the predicted
        entities, which are right if type and boundaries are. Empty for a regression, and if there are no items.
    """
    found = find_confidences(task, values, labels)
    if not len(found.scores):
        return {}
    if task.is_token_task or task.problem_type == MULTI_LABEL:
        scores = np.clip(found.scores.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
        brier = float(np.square(found.scores - found.right).mean(dtype=np.float64))
        nll = -float(np.log(np.where(found.right > 0, scores, 1 - scores)).mean())
    else:
        labeled = labels >= 0
        brier, nll = (float(values[name][labeled].mean(dtype=np.float64)) for name in ("brier", "nll"))
    return dict(zip(CALIBRATION_METRICS, (expected_calibration_error(found), brier, nll), strict=True))


def find_confidences(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> Confidences:
    """Return the items of a task whose scores are probabilities of being right, see `calibration_scores`.

    Args:
        task: The task.
        values: See `calibration_scores`.
        labels: See `calibration_scores`.
    """
    if task.problem_type == REGRESSION or "score" not in values:
        return Confidences(np.zeros(0), np.zeros(0))
    if task.is_token_task:
        return _of_entities(task, values, labels)
    if task.problem_type == MULTI_LABEL:
        known = labels[:, : task.num_labels]
        labeled = ~np.isnan(known)
        return Confidences(values["score"][labeled], known[labeled])
    labeled = labels >= 0
    return Confidences(values["score"][labeled], (values["ids"] == labels)[labeled].astype(np.float32))


def _of_entities(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> Confidences:
    scores: list[float] = []
    right: list[float] = []
    for ids, probabilities, gold in zip(values["ids"], values["score"], labels, strict=True):
        words = np.flatnonzero(gold != IGNORE_INDEX)
        for span, is_right in entity_outcomes(task, ids[words], gold[words]):
            scores.append(float(probabilities[words[span.start : span.end]].mean()))
            right.append(is_right)
    return Confidences(np.array(scores), np.array(right))


def entity_outcomes(task: TaskConfig, ids: np.ndarray, gold: np.ndarray) -> Sequence[tuple[TagSpan, bool]]:
    """Return the predicted entities of a row, and whether each has the type and the boundaries of a gold one.

    Args:
        task: Token task.
        ids: Predicted tags of the labeled words (words,).
        gold: Their labels (words,).
    """
    expected = set(tag_spans(tag_names(task, gold)))
    return [(span, span in expected) for span in tag_spans(tag_names(task, ids))]

"""Entities that are sure enough: minimum scores for a wanted precision, and the scores of an answer with them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.labels.unseen_labels import tag_names
from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import OUTSIDE, entity_types, tag_spans
from ..models.tags_min_score import MinScore, is_sure, min_score_of
from ..models.tasks import TaskConfig
from ..runtime.processes import log_once
from .temperature import PredictedEntities

logger = logging.getLogger(__name__)

# An entity type with fewer predicted entities has the minimum score of the task.
MIN_ENTITIES = 50
# The precision of fewer entities says little.
MIN_KEPT = 20
ANSWER_METRICS = ("answer_precision", "answer_recall", "answer_f1", "left_out")


@dataclass(frozen=True)
class MinScoreFit:
    """Minimum scores of a task, fitted on validation.

    Args:
        min_score: The minimum: of the task, or by entity type.
        entities: Number of predicted entities.
        left_out: Number of those that are left out.
        precision: Share of right ones among the others.
        precision_of_all: Share of right ones among all.
        missed: By entity type for which the wanted precision cannot be reached, the greatest precision; the key of a
            minimum for the whole task is None.
    """

    min_score: MinScore
    entities: int
    left_out: int
    precision: float
    precision_of_all: float
    missed: dict[str | None, float]

    def __str__(self) -> str:
        """Return the fit as part of a sentence."""
        values = list(self.min_score.values()) if isinstance(self.min_score, dict) else [self.min_score]
        ends = [f"{value:.3g}" for value in dict.fromkeys((min(values), max(values)))]
        return (
            f"min_score {' to '.join(ends)} leaves out {self.left_out:,} of {self.entities:,} entities; "
            f"{self.precision:.1%} of the others are right, of all {self.precision_of_all:.1%}"
        )


def fit_min_score(task: TaskConfig, entities: PredictedEntities) -> MinScoreFit | None:
    """Fit the lowest minimum score with which a task has the precision that it wants.

    An entity type with `MIN_ENTITIES` predicted entities has a minimum of its own, the others that of all entities of
    the task. A minimum keeps at least `MIN_KEPT` entities. If it cannot reach the precision, it is that of the
    greatest precision.

    Args:
        task: Token task with ``entity_precision``.
        entities: Entities that it predicts on validation, with calibrated scores.

    Returns:
        The fit; None without entities.
    """
    scores, right, types = entities
    if task.entity_precision is None or not len(scores):
        return None
    own = [kind for kind in entity_types(task.labels or []) if (types == kind).sum() >= MIN_ENTITIES]
    fits = {kind: _lowest(scores[types == kind], right[types == kind], task.entity_precision) for kind in own}
    missed: dict[str | None, float] = {kind: found for kind, (_, found) in fits.items() if found is not None}
    is_split = bool(own)
    least, found = _lowest(scores, right, task.entity_precision)
    if not set(types) <= set(own) and found is not None:
        missed[None] = found
    by_type = {kind: fits[kind][0] if kind in fits else least for kind in entity_types(task.labels or [])}
    min_score: MinScore = by_type if is_split else least
    kept = np.array([score >= min_score_of(min_score, kind) for score, kind in zip(scores, types, strict=True)])
    precision = float(right[kept].mean()) if kept.any() else 0.0
    return MinScoreFit(min_score, len(scores), int((~kept).sum()), precision, float(right.mean()), missed)


def set_min_scores(tasks: Sequence[TaskConfig], fits: Mapping[str, MinScoreFit | None]) -> dict[str, MinScoreFit]:
    """Set the minimum scores of tasks, and log them, with the entity types that miss the wanted precision.

    Args:
        tasks: Tasks of the model.
        fits: What `fit_min_score` returns, by task.

    Returns:
        The fits that there are.
    """
    by_name = {task.name: task for task in tasks}
    for name, fit in fits.items():
        task = by_name[name]
        if fit is None:
            log_once(logger, "Task %r has no new min_score: no entity was predicted.", name)
            continue
        task.min_score = fit.min_score
        log_once(logger, "Task %r: %s.", name, fit)
        if fit.missed:
            others = "types with few entities" if isinstance(fit.min_score, dict) else "all types"
            shown = ", ".join(f"{kind or others} (at most {found:.1%})" for kind, found in fit.missed.items())
            text = "Task %r: the entity_precision of %.1f%% is not reached on validation by %s."
            log_once(logger, text, name, 100 * (task.entity_precision or 0), shown, level=logging.WARNING)
    return {name: fit for name, fit in fits.items() if fit is not None}


def answer_metric_names(task: TaskConfig) -> tuple[str, ...]:
    """Return the names of the metrics of entities in answers; none for a task without a minimum score."""
    return ANSWER_METRICS if task.min_score is not None or task.entity_precision is not None else ()


def answered_ids(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return predicted tags without the entities that are not sure enough, and the number of these.

    Args:
        task: Token task with ``min_score``.
        values: Reduced predictions of the task, see `reduce_predictions`.
        labels: Labels as the collator returns them (rows, words).
    """
    ids, left_out = values["ids"].copy(), 0
    for row, (row_ids, scores, gold) in enumerate(zip(values["ids"], values["score"], labels, strict=True)):
        words = np.flatnonzero(gold != IGNORE_INDEX)
        for span in tag_spans(tag_names(task, row_ids[words])):
            if not is_sure(span, scores[words].tolist(), task.min_score):
                ids[row, words[span.start : span.end]] = task.label2id[OUTSIDE]
                left_out += 1
    return ids, left_out


def _lowest(scores: np.ndarray, right: np.ndarray, wanted: float) -> tuple[float, float | None]:
    """Return the lowest minimum score with a precision; if there is none, the best one, and its precision."""
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    counts = np.arange(1, len(scores) + 1)
    precisions = right.cumsum() / counts
    # Entities of equal scores are kept or left out together.
    is_end = np.append(scores[1:] < scores[:-1], True) & (counts >= min(MIN_KEPT, len(scores)))
    ends = np.flatnonzero(is_end)
    reaching = ends[precisions[ends] >= wanted]
    missed = None if len(reaching) else float(precisions[ends].max())
    last = reaching[-1] if len(reaching) else ends[np.flatnonzero(precisions[ends] == missed)[-1]]
    least = 0.0 if last == len(scores) - 1 else float((scores[last] + scores[last + 1]) / 2)
    return least, missed

"""Mistakes of a model on a split, sorted by how sure the model was of its wrong answer."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..data.annotation_records import TextLabel
from ..data.labels.unseen_labels import UNSEEN, is_unseen
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_inputs import TextInput
from .class_scores import MISSED, SPURIOUS, EntityRow, entity_rows
from .row_labels import entity_label, entity_score, label_name
from .split_result import SplitResult

WRONG_LABEL = "wrong label"


class Mistake(NamedTuple):
    """A wrong answer.

    Args:
        task: Name of the task.
        row: Index of the row.
        kind: ``wrong label``; ``missed`` or ``spurious`` for one label of several; for entities also ``wrong type``
            and ``wrong boundaries``, see `EntityErrors`.
        score: How sure the model was, from 0 to 1: the calibrated score of the predicted label or entity. Of a missed
            label, the probability that it is absent; of a missed entity, the mean probability of the tags that its
            words have got.
        given: Gold label, with the characters of an entity; None if the predicted one is spurious.
        predicted: Predicted label; None if the gold one is missed.
    """

    task: str
    row: int
    kind: str
    score: float
    given: TextLabel | None
    predicted: TextLabel | None


class MistakeCount(NamedTuple):
    """Mistakes of one kind with the same labels.

    Args:
        task: Name of the task.
        kind: See `Mistake`.
        given: Gold label; None if there is none.
        predicted: Predicted label; None if there is none.
        mistakes: Number of mistakes.
    """

    task: str
    kind: str
    given: str | None
    predicted: str | None
    mistakes: int


def find_mistakes(task: TaskConfig, result: SplitResult) -> list[Mistake]:
    """Find the wrong answers of a task, the surest first.

    Args:
        task: The task.
        result: Result on a split.

    Returns:
        The mistakes; none for a regression, whose numbers are all off by something and have no score.
    """
    if task.problem_type == REGRESSION:
        return []
    if task.is_token_task:
        found = _entity_mistakes(task, result)
    else:
        found = (
            _label_set_mistakes(task, result) if task.problem_type == MULTI_LABEL else _label_mistakes(task, result)
        )
    return sort_mistakes(found)


def sort_mistakes(mistakes: Iterator[Mistake] | Sequence[Mistake]) -> list[Mistake]:
    """Sort mistakes by score, the highest first. A score that is not a number counts as the highest.

    Args:
        mistakes: Mistakes of any tasks.
    """
    return sorted(mistakes, key=_order)


def count_mistakes(mistakes: Sequence[Mistake]) -> list[MistakeCount]:
    """Count the mistakes of the same kind with the same labels, the commonest first.

    Args:
        mistakes: Mistakes of any tasks.
    """
    counts = Counter(
        (mistake.task, mistake.kind, _name(mistake.given), _name(mistake.predicted)) for mistake in mistakes
    )
    return [MistakeCount(*labels, count) for labels, count in counts.most_common()]


def _order(mistake: Mistake) -> tuple[float, int, int]:
    entity = mistake.given or mistake.predicted
    start = 0 if entity is None or entity.start is None else entity.start
    return (-math.inf if math.isnan(mistake.score) else -mistake.score, mistake.row, start)


def _name(label: TextLabel | None) -> str | None:
    return None if label is None else label.label


def _label_mistakes(task: TaskConfig, result: SplitResult) -> Iterator[Mistake]:
    names = task.labels or []
    ids, labels, scores = result.predictions(task), result.labels(task), result.scores(task)
    for row in np.flatnonzero((labels != IGNORE_INDEX) & (ids != labels)).tolist():
        predicted = TextLabel(names[int(ids[row])], float(scores[row]))
        yield Mistake(
            task.name, row, WRONG_LABEL, float(scores[row]), TextLabel(label_name(task, labels[row])), predicted
        )


def _label_set_mistakes(task: TaskConfig, result: SplitResult) -> Iterator[Mistake]:
    names = task.labels or []
    ids, scores = result.predictions(task), result.scores(task)
    known, others = np.split(result.labels(task), [task.num_labels], axis=1)
    wrong = ~np.isnan(known) & ((ids > 0) != (known > 0))
    for row, label in np.argwhere(wrong).tolist():
        name, score = names[label], float(scores[row, label])
        if known[row, label] > 0:
            yield Mistake(task.name, row, MISSED, 1 - score, TextLabel(name), None)
        else:
            yield Mistake(task.name, row, SPURIOUS, score, None, TextLabel(name, score))
    # The model has no score for a label that train lacks: it is sure that the label is absent.
    for row, _ in np.argwhere(is_unseen(others)).tolist():
        yield Mistake(task.name, row, MISSED, 1.0, TextLabel(UNSEEN), None)


def _entity_mistakes(task: TaskConfig, result: SplitResult) -> Iterator[Mistake]:
    scores = result.scores(task)
    for entities in entity_rows(task, result.predictions(task), result.labels(task)):
        if entities.gold != entities.predicted:
            yield from _of_entities(task, entities, scores[entities.row], result.texts[entities.row])


def _of_entities(task: TaskConfig, entities: EntityRow, scores: np.ndarray, text: TextInput) -> Iterator[Mistake]:
    for error in entities.errors():
        span = error.predicted or error.gold
        if span is None:
            continue
        score = entity_score(span, entities, scores)
        given = None if error.gold is None else entity_label(error.gold, entities, text)
        predicted = None if error.predicted is None else entity_label(error.predicted, entities, text, score)
        yield Mistake(task.name, entities.row, error.kind, score, given, predicted)

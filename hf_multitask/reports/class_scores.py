"""How a task does on each of its labels: counts and scores, which label is taken for which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import TagSpan, entity_types, tag_spans
from ..models.tasks import MULTI_LABEL, TaskConfig

# Stands for what only one side has: a missed entity, or one that is none.
NO_ENTITY = "no entity"


class ClassScores(NamedTuple):
    """The counts of one label, and the scores that follow from them."""

    label: str
    gold: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Share of what is predicted that is right; 0 where nothing is predicted."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold that is found; 0 where there is none."""
        return self.right / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where neither side has the label."""
        both = self.gold + self.predicted
        return 2 * self.right / both if both else 0.0


@dataclass(frozen=True)
class Confusion:
    """How often each gold label is predicted as which.

    Args:
        gold: Names of the rows.
        predicted: Names of the columns.
        counts: Whole numbers (gold, predicted).
    """

    gold: list[str]
    predicted: list[str]
    counts: np.ndarray


@dataclass
class EntityErrors:
    """What becomes of the entities of one type.

    A gold entity is right, or has the wrong type (the same words), or wrong ends (it overlaps a predicted one of its
    type), or is missed. A predicted one that is none of these is spurious.
    """

    wrong_type: int = 0
    wrong_ends: int = 0
    missed: int = 0
    spurious: int = 0


class EntityRow(NamedTuple):
    """The entities of a labelled row.

    Args:
        row: Number of the row.
        words: Numbers of the words that have a label; entities count these.
        gold: The gold entities.
        predicted: The predicted ones.
    """

    row: int
    words: np.ndarray
    gold: list[TagSpan]
    predicted: list[TagSpan]


def class_scores(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> list[ClassScores]:
    """Count gold, predicted and right ones of each label; of a token task, of each entity type.

    Args:
        task: A task with labels.
        predictions: What `decode` makes of the logits (rows, …).
        labels: Labels as the collator makes them (rows, …).

    Returns:
        The scores of the labels that occur in either, in the order of the task's labels.
    """
    if task.problem_type == MULTI_LABEL:
        kept = ~np.isnan(labels).any(axis=1)
        gold, found = labels[kept] > 0, predictions[kept] > 0
        counts = zip(task.labels or [], gold.sum(0), found.sum(0), (gold & found).sum(0), strict=True)
    else:
        confusion = count_confusion(task, predictions, labels)
        names = task.labels if not task.is_token_task else entity_types(task.labels or [])
        table = confusion.counts
        size = len(names or [])
        counts = zip(names or [], table.sum(1)[:size], table.sum(0)[:size], table.diagonal()[:size], strict=True)
    scores = [ClassScores(name, int(gold), int(found), int(right)) for name, gold, found, right in counts]
    return [score for score in scores if score.gold or score.predicted]


def count_confusion(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> Confusion:
    """Count which label is predicted for which.

    For a token task these are the types of entities with the same words; an entity whose words are no entity on the
    other side stands in the last column or row, `NO_ENTITY`. So the sum of a row is the number of gold entities, and
    precision and recall of conlleval can be read off the table.

    Args:
        task: A task with one label a row, or a token task.
        predictions: See `class_scores`.
        labels: The same.

    Returns:
        The counts.
    """
    if not task.is_token_task:
        names = list(task.labels or [])
        kept = labels != IGNORE_INDEX
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(counts, (labels[kept], predictions[kept]), 1)
        return Confusion(names, names, counts)
    names = [*entity_types(task.labels or []), NO_ENTITY]
    number = {name: i for i, name in enumerate(names[:-1])}
    none = len(number)
    counts = np.zeros((none + 1, none + 1), dtype=np.int64)
    for row in entity_rows(task, predictions, labels):
        gold, predicted = _by_place(row.gold), _by_place(row.predicted)
        for place in gold.keys() | predicted.keys():
            counts[
                number[gold[place].label] if place in gold else none,
                number[predicted[place].label] if place in predicted else none,
            ] += 1
    return Confusion(names, names, counts)


def count_entity_errors(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> dict[str, EntityErrors]:
    """Count the mistakes of a token task by kind.

    Args:
        task: The task.
        predictions: See `class_scores`.
        labels: The same.

    Returns:
        The counts by entity type.
    """
    errors = {name: EntityErrors() for name in entity_types(task.labels or [])}
    for row in entity_rows(task, predictions, labels):
        gold, predicted = _by_place(row.gold), _by_place(row.predicted)
        for place, span in gold.items():
            if place in predicted:
                errors[span.label].wrong_type += predicted[place].label != span.label
            elif _overlaps(span, row.predicted):
                errors[span.label].wrong_ends += 1
            else:
                errors[span.label].missed += 1
        for place, span in predicted.items():
            if place not in gold and not _overlaps(span, row.gold):
                errors[span.label].spurious += 1
    return errors


def entity_rows(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> Iterator[EntityRow]:
    """Go through the labelled rows of a token task.

    Args:
        task: The task.
        predictions: Label ids (rows, words).
        labels: The same, `IGNORE_INDEX` where a word has none.

    Yields:
        The gold and the predicted entities of each row that has a label.
    """
    kept = labels != IGNORE_INDEX
    for row in np.flatnonzero(kept.any(axis=1)):
        words = np.flatnonzero(kept[row])
        yield EntityRow(
            int(row), words, *(tag_spans(_tags(task, values[row][words])) for values in (labels, predictions))
        )


def _tags(task: TaskConfig, ids: np.ndarray) -> list[str]:
    names = task.labels or []
    return [names[i] for i in ids.tolist()]


def _by_place(spans: Sequence[TagSpan]) -> dict[tuple[int, int], TagSpan]:
    return {(span.start, span.end): span for span in spans}


def _overlaps(span: TagSpan, others: Sequence[TagSpan]) -> bool:
    """Tell whether one of other entities has the same type and a word in common."""
    return any(other.label == span.label and other.start < span.end and span.start < other.end for other in others)

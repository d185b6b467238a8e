"""Scores per class: precision, recall and F1 of each label, confusions between labels, and kinds of entity errors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..data.labels.unseen_labels import UNSEEN, is_unseen, tag_names
from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import TagSpan, entity_types, tag_spans
from ..models.tasks import MULTI_LABEL, TaskConfig

# Row and column of entities that exist on one side only: missed and spurious ones.
NO_ENTITY = "no entity"
# Kinds of entity errors.
WRONG_TYPE, WRONG_BOUNDARIES, MISSED, SPURIOUS = "wrong type", "wrong boundaries", "missed", "spurious"


class ClassScores(NamedTuple):
    """Scores and counts of one label.

    Args:
        label: Name of the label or entity type.
        precision: Share of the predictions that are correct; 0 if there are none.
        recall: Share of the gold labels that are predicted; 0 if there are none.
        f1: Harmonic mean of precision and recall; 0 if both are 0.
        gold: Number of times it is the gold label.
        predicted: Number of times it is predicted.
        correct: Number of times it is both.
    """

    label: str
    precision: float
    recall: float
    f1: float
    gold: int
    predicted: int
    correct: int


class Confusion(NamedTuple):
    """Confusion matrix.

    Args:
        names: Names of the rows and of the columns.
        counts: Integers (gold, predicted).
    """

    names: list[str]
    counts: np.ndarray


@dataclass
class EntityErrors:
    """Kinds of errors of one entity type.

    A gold entity is correct, has the wrong type (same words), has wrong boundaries (it overlaps a predicted entity of
    its type), or is missed. A predicted entity that is none of these is spurious.
    """

    wrong_type: int = 0
    wrong_boundaries: int = 0
    missed: int = 0
    spurious: int = 0


class EntityError(NamedTuple):
    """An entity that is not as it should be.

    Args:
        kind: Kind of the error, see `EntityErrors`.
        gold: The gold entity; None if it is spurious.
        predicted: The predicted entity with the same words, or that of the same type with the most words in common;
            None if the gold entity is missed.
    """

    kind: str
    gold: TagSpan | None
    predicted: TagSpan | None

    @property
    def label(self) -> str:
        """Type of the gold entity, or of the spurious one."""
        span = self.gold or self.predicted
        return NO_ENTITY if span is None else span.label


class EntityRow(NamedTuple):
    """Entities of a labeled row.

    Args:
        row: Index of the row.
        words: Indices of the words that have a label. The spans of the entities count only these words.
        gold: Gold entities; the type of those that train lacks is `UNSEEN`.
        predicted: Predicted entities.
    """

    row: int
    words: np.ndarray
    gold: list[TagSpan]
    predicted: list[TagSpan]

    def matched(self) -> Iterator[tuple[TagSpan | None, TagSpan | None]]:
        """Yield the gold and the predicted entity of each span of words that has either."""
        gold, predicted = ({span[1:]: span for span in spans} for spans in (self.gold, self.predicted))
        for words in gold.keys() | predicted.keys():
            yield gold.get(words), predicted.get(words)

    def errors(self) -> Iterator[EntityError]:
        """Yield the errors of the row, in no order."""
        for gold, predicted in self.matched():
            if gold and predicted:
                if gold.label != predicted.label:
                    yield EntityError(WRONG_TYPE, gold, predicted)
            elif gold:
                other = _most_overlapping(gold, self.predicted)
                yield EntityError(MISSED if other is None else WRONG_BOUNDARIES, gold, other)
            elif predicted and _most_overlapping(predicted, self.gold) is None:
                yield EntityError(SPURIOUS, None, predicted)


def class_scores(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> list[ClassScores]:
    """Score each label of a task; for a token task, each entity type.

    Args:
        task: Task with labels.
        predictions: Decoded predictions (rows, …).
        labels: Labels as the collator returns them (rows, …).

    Returns:
        Scores of the labels that are gold or predicted at least once, in the order of the task's labels. Labels that
        train lacks are one label, `UNSEEN`, which is never predicted.
    """
    # Not by multilabel_confusion_matrix, which takes a single column for the classes 0 and 1, nor by seqeval's scores,
    # which have no counts of predicted and correct entities.
    if task.problem_type == MULTI_LABEL:
        labeled = ~np.isnan(labels).any(axis=1)
        unseen = is_unseen(labels[labeled][:, task.num_labels :]).any(axis=1, keepdims=True)
        gold_labels = np.hstack([labels[labeled][:, : task.num_labels] > 0, unseen])
        predicted_labels = np.hstack([predictions[labeled] > 0, np.zeros_like(unseen)])
        names = [*(task.labels or []), UNSEEN]
        gold, predicted = gold_labels.sum(axis=0), predicted_labels.sum(axis=0)
        correct = (gold_labels & predicted_labels).sum(axis=0)
    else:
        names, table = count_confusion(task, predictions, labels)
        gold, predicted, correct = table.sum(axis=1), table.sum(axis=0), table.diagonal()
    precision, recall = correct / np.maximum(predicted, 1), correct / np.maximum(gold, 1)
    f1 = 2 * correct / np.maximum(gold + predicted, 1)
    columns = (column.tolist() for column in (precision, recall, f1, gold, predicted, correct))
    scores = [ClassScores(*values) for values in zip(names, *columns, strict=True)]
    if task.is_token_task:
        del scores[-1]  # NO_ENTITY
    return [score for score in scores if score.gold or score.predicted]


def count_confusion(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> Confusion:
    """Count how often each label is predicted for each gold label.

    Gold labels that train lacks, if there are any, are one label, `UNSEEN`.

    For a token task, the labels are the types of entities with the same words. An entity without a counterpart is
    counted in the last column or row, `NO_ENTITY`. The sum of a row is therefore the number of gold entities of its
    type, and conlleval's precision and recall follow from the matrix.

    Args:
        task: Token task, or sequence task with one label per row.
        predictions: Decoded predictions (rows, …).
        labels: Labels as the collator returns them (rows, …).
    """
    if task.is_token_task:
        unseen = [UNSEEN] if is_unseen(labels).any() else []
        names = [*entity_types(task.labels or []), *unseen, NO_ENTITY]
        ids = {name: i for i, name in enumerate(names[:-1])}
        pairs = [
            [ids[span.label] if span else len(ids) for span in spans]
            for row in entity_rows(task, predictions, labels)
            for spans in row.matched()
        ]
        gold, predicted = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    else:
        names = [*(task.labels or []), *([UNSEEN] if is_unseen(labels).any() else [])]
        labeled = labels != IGNORE_INDEX
        gold = np.where(is_unseen(labels), len(names) - 1, labels)[labeled]
        predicted = predictions[labeled]
    # scikit-learn's confusion_matrix raises if there are no pairs, as in a split without entities.
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (gold, predicted), 1)
    return Confusion(names, counts)


def count_entity_errors(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> dict[str, EntityErrors]:
    """Count the errors of a token task by entity type and kind.

    Args:
        task: Token task.
        predictions: Label ids (rows, words).
        labels: Label ids (rows, words), `IGNORE_INDEX` for words without a label.
    """
    errors = {name: EntityErrors() for name in (*entity_types(task.labels or []), UNSEEN)}
    for row in entity_rows(task, predictions, labels):
        for error in row.errors():
            kinds = errors[error.label]
            kinds.wrong_type += error.kind == WRONG_TYPE
            kinds.wrong_boundaries += error.kind == WRONG_BOUNDARIES
            kinds.missed += error.kind == MISSED
            kinds.spurious += error.kind == SPURIOUS
    return errors


def entity_rows(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> Iterator[EntityRow]:
    """Yield the gold and the predicted entities of each row that has a label.

    Args:
        task: Token task.
        predictions: Label ids (rows, words).
        labels: Label ids (rows, words), `IGNORE_INDEX` for words without a label.
    """
    known = set(entity_types(task.labels or []))
    labeled = labels != IGNORE_INDEX
    for row in np.flatnonzero(labeled.any(axis=1)).tolist():
        words = np.flatnonzero(labeled[row])
        gold, predicted = (tag_spans(tag_names(task, ids[row][words])) for ids in (labels, predictions))
        gold = [span if span.label in known else span._replace(label=UNSEEN) for span in gold]
        yield EntityRow(row, words, gold, predicted)


def _most_overlapping(span: TagSpan, others: Sequence[TagSpan]) -> TagSpan | None:
    """Return the entity of the same type that has the most words in common, None if none has any."""
    shared = [(min(other.end, span.end) - max(other.start, span.start), other) for other in others]
    overlapping = [(words, other) for words, other in shared if words > 0 and other.label == span.label]
    return max(overlapping, key=lambda found: found[0])[1] if overlapping else None

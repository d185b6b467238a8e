"""Given and predicted labels of single rows, with scores and positions in the text."""

from collections.abc import Sequence

import numpy as np

from ..data.annotation_records import TextLabel
from ..data.labels.unseen_labels import UNSEEN, is_unseen
from ..models.losses import IGNORE_INDEX
from ..models.tags_iob2 import TagSpan
from ..models.tasks import MULTI_LABEL, TaskConfig
from ..models.text_inputs import TextInput
from .class_scores import EntityRow, entity_rows
from .split_result import SplitResult


def given_labels(task: TaskConfig, result: SplitResult, row: int) -> list[TextLabel]:
    """Return the gold labels of a labeled row.

    Args:
        task: Task that is no regression.
        result: Result on a split.
        row: Index of the row.

    Returns:
        One label; all labels of a multi-label task; the entities of a token task. A label that train lacks is
        `UNSEEN`.
    """
    gold = result.labels(task)[row]
    if task.is_token_task:
        found = labeled_entities(task, result, row)
        return [] if found is None else [entity_label(span, found, result.texts[row]) for span in found.gold]
    if task.problem_type == MULTI_LABEL:
        return [TextLabel(name) for name in present_labels(task, gold)]
    return [] if gold == IGNORE_INDEX else [TextLabel(label_name(task, gold))]


def predicted_labels(task: TaskConfig, result: SplitResult, row: int) -> list[TextLabel]:
    """Return the predicted labels of a labeled row with their scores, see `given_labels`.

    Args:
        task: Task that is no regression.
        result: Result on a split.
        row: Index of the row.
    """
    ids, scores = result.predictions(task)[row], result.scores(task)[row]
    if task.is_token_task:
        found = labeled_entities(task, result, row)
        if found is None:
            return []
        text = result.texts[row]
        return [entity_label(span, found, text, entity_score(span, found, scores)) for span in found.predicted]
    names = task.labels or []
    if task.problem_type == MULTI_LABEL:
        return [TextLabel(names[i], float(scores[i])) for i in np.flatnonzero(ids > 0).tolist()]
    return [TextLabel(names[int(ids)], float(scores))]


def labeled_entities(task: TaskConfig, result: SplitResult, row: int) -> EntityRow | None:
    """Return the entities of a row of a token task; None if no word of it has a label.

    Args:
        task: Token task.
        result: Result on a split.
        row: Index of the row.
    """
    chosen = slice(row, row + 1)
    found = next(entity_rows(task, result.predictions(task)[chosen], result.labels(task)[chosen]), None)
    return None if found is None else found._replace(row=row)


def entity_label(span: TagSpan, entities: EntityRow, text: TextInput, score: float | None = None) -> TextLabel:
    """Return an entity with its characters in the text.

    Args:
        span: One of the entities.
        entities: Entities of the row.
        text: Text of the row.
        score: Score of the entity.
    """
    first, last = entities.words[span.start], entities.words[span.end - 1]
    return TextLabel(span.label, score, text.words[first].start, text.words[last].end)


def entity_score(span: TagSpan, entities: EntityRow, scores: np.ndarray) -> float:
    """Return the mean probability of the predicted tags of some words, as the pipeline scores entities.

    Args:
        span: The words.
        entities: Entities of the row.
        scores: Probabilities of the predicted tags of the row (words).
    """
    return float(scores[entities.words[span.start : span.end]].mean(dtype=np.float64))


def label_name(task: TaskConfig, label: np.ndarray | int) -> str:
    """Return the name of a gold label of a single-label task.

    Args:
        task: The task.
        label: Its id.
    """
    return UNSEEN if is_unseen(np.asarray(label)) else (task.labels or [])[int(label)]


def present_labels(task: TaskConfig, gold: np.ndarray) -> Sequence[str]:
    """Return the names of the gold labels of a row of a multi-label task.

    Args:
        task: The task.
        gold: Labels as the collator returns them (labels).
    """
    names = [name for name, value in zip(task.labels or [], gold, strict=False) if value > 0]
    return names + [UNSEEN] * int(is_unseen(gold[task.num_labels :]).sum())

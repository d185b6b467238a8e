"""Minimum scores of entities: which predicted entities are sure enough to be an answer."""

from collections.abc import Mapping, Sequence

from .messages import unknown_name_message
from .tags_iob2 import TagSpan, entity_types

# A number for all entity types, or numbers by type.
MinScore = float | dict[str, float]


def check_min_score(given: MinScore, labels: Sequence[str] | None) -> None:
    """Raise if a value is not valid as the minimum score of a task.

    Args:
        given: Value of the task's ``min_score``.
        labels: IOB2 tags of the task, None if they are not known yet.

    Raises:
        ValueError: If a number is outside [0, 1], or a key is not an entity type.
    """
    for kind, value in (given if isinstance(given, dict) else {None: given}).items():
        if not 0 <= value <= 1:
            of_type = "" if kind is None else f" of {kind!r}"
            raise ValueError(f"min_score{of_type} must be a number in [0, 1], found {value!r}.")
        known = entity_types(labels or [])
        if kind is not None and labels is not None and kind not in known:
            raise ValueError(unknown_name_message("entity type in min_score", kind, known))


def min_score_of(min_score: MinScore | None, kind: str) -> float:
    """Return the minimum score of an entity type; 0 if it has none."""
    if isinstance(min_score, Mapping):
        return min_score.get(kind, 0.0)
    return min_score or 0.0


def entity_score(span: TagSpan, scores: Sequence[float]) -> float:
    """Return the score of an entity: the mean probability of the tags of its words.

    Args:
        span: The entity.
        scores: Probabilities of the tags of all words.
    """
    return sum(scores[span.start : span.end]) / (span.end - span.start)


def is_sure(span: TagSpan, scores: Sequence[float], min_score: MinScore | None) -> bool:
    """Return whether the score of an entity reaches the minimum of its type."""
    least = min_score_of(min_score, span.label)
    return least == 0 or entity_score(span, scores) >= least

"""The IOB2 tag scheme: tags, allowed transitions and the entities that tags mark."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

OUTSIDE = "O"


class TagSpan(NamedTuple):
    """An entity in a tag sequence: words ``start`` to ``end``, without ``end``."""

    label: str
    start: int
    end: int


def is_tag(tag: object) -> bool:
    """Return whether a value is an IOB2 tag: ``O``, ``B-<type>`` or ``I-<type>``."""
    return isinstance(tag, str) and (tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2))


def entity_type(tag: str) -> str | None:
    """Return the entity type of a tag, or None for ``O``.

    Raises:
        ValueError: If the value is not an IOB2 tag.
    """
    if not is_tag(tag):
        raise ValueError(f"{tag!r} is not an IOB2 tag; expected 'O', 'B-<type>' or 'I-<type>'.")
    return None if tag == OUTSIDE else tag[2:]


def entity_types(tags: Iterable[str]) -> list[str]:
    """Return the sorted entity types of some tags."""
    return sorted({kind for tag in tags if (kind := entity_type(tag)) is not None})


def tags_of_types(types: Iterable[str]) -> list[str]:
    """Return the B- and the I- tag of each entity type, in order."""
    return [f"{prefix}-{kind}" for kind in types for prefix in ("B", "I")]


def inside_tag(tag: str) -> str:
    """Return the tag of a word's further subwords: I- if the word's own tag is B-."""
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


@lru_cache(maxsize=64)
def allowed_transitions(labels: tuple[str, ...]) -> torch.Tensor:
    """Return the transitions that IOB2 allows.

    Args:
        labels: Tags in the order of their ids.

    Returns:
        Boolean tensor (num_labels + 1, num_labels): row ``i`` marks the labels that may follow label ``i``, the last
        row those that may come first. ``I-x`` only follows ``B-x`` and ``I-x``.
    """
    before = [*labels, OUTSIDE]
    return torch.tensor(
        [[not now.startswith("I-") or (last != OUTSIDE and last[2:] == now[2:]) for now in labels] for last in before]
    )


def tag_spans(tags: Sequence[str]) -> list[TagSpan]:
    """Return the entities that a tag sequence marks.

    An ``I-x`` after ``O`` or after another type starts an entity, as in conlleval.

    Args:
        tags: One tag per word.

    Returns:
        The entities, in order.
    """
    spans: list[TagSpan] = []
    for i, tag in enumerate(tags):
        kind = entity_type(tag)
        if kind is None:
            continue
        continues = tag.startswith("I-") and spans and spans[-1].end == i and spans[-1].label == kind
        if continues:
            spans[-1] = spans[-1]._replace(end=i + 1)
        else:
            spans.append(TagSpan(kind, i, i + 1))
    return spans

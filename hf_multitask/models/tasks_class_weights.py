"""Class weights: what a task may be given, and the weight of each of its labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .messages import unknown_name_message
from .tags_iob2 import entity_type

BALANCED = "balanced"


def check_class_weights(given: Any) -> None:
    """Refuse what are no class weights, whatever the labels are.

    A weight of 0 is refused: no item of its label would be learned, yet each would count for the mean. To leave a
    label out, leave it out of the data.

    Args:
        given: What the task was given.

    Raises:
        ValueError: If it is neither ``"balanced"`` nor a mapping of names to finite numbers above 0.
    """
    if isinstance(given, str):
        if given != BALANCED:
            raise ValueError(unknown_name_message("class_weights", given, [BALANCED]))
        return
    if not isinstance(given, Mapping):
        raise ValueError(f"class_weights must be {BALANCED!r} or a mapping of labels to weights, found {given!r}.")
    for name, weight in given.items():
        if not isinstance(name, str):
            raise ValueError(f"labels in class_weights must be strings, found {name!r}.")
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise ValueError(f"class_weights of {name!r} must be a finite number above 0, found {weight!r}.")


def weights_by_label(given: Mapping[str, float], labels: Sequence[str], are_tags: bool) -> dict[str, float]:
    """Return the weight of every label: 1.0 where none is given.

    Args:
        given: Weights by label. For tags a key may be an entity type, for both its tags; a tag's own weight goes
            before that of its type.
        labels: The labels.
        are_tags: Whether the labels are IOB2 tags.

    Returns:
        The weights, in the order of the labels.

    Raises:
        ValueError: If a key is no label.
    """
    kinds = {label: (entity_type(label) or label) if are_tags else label for label in labels}
    allowed = list(dict.fromkeys([*labels, *kinds.values()]))
    for name in given:
        if name not in allowed:
            raise ValueError(unknown_name_message("label in class_weights", name, allowed))
    return {label: float(given.get(label, given.get(kind, 1.0))) for label, kind in kinds.items()}

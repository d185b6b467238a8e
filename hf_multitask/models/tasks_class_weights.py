"""Class weights of a task: checks, and the weight of each label."""

import math
from collections.abc import Mapping, Sequence

from .messages import unknown_name_message
from .tags_iob2 import entity_type

BALANCED = "balanced"


def check_class_weights(given: object) -> None:
    """Raise if a value is not valid as class weights, independent of the labels.

    A weight of 0 is not valid: the items of its label would not be learned, but would still count for the mean. To
    leave a label out, leave it out of the data.

    Args:
        given: Value of the task's ``class_weights``.

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
    """Return the weight of every label; 1.0 if none is given.

    Args:
        given: Weights by label. For tags, a key may be an entity type, for both its tags; the weight of a tag takes
            precedence over the weight of its type.
        labels: Labels.
        are_tags: Whether the labels are IOB2 tags.

    Returns:
        The weights, in the order of the labels.

    Raises:
        ValueError: If a key is not a label.
    """
    kinds = {label: (entity_type(label) or label) if are_tags else label for label in labels}
    allowed = list(dict.fromkeys([*labels, *kinds.values()]))
    for name in given:
        if name not in allowed:
            raise ValueError(unknown_name_message("label in class_weights", name, allowed))
    return {label: float(given.get(label, given.get(kind, 1.0))) for label, kind in kinds.items()}

"""Training sets of several sizes, each with all rows of the smaller ones and with every label's share."""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import datasets

from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig


def nested_order(labels: Sequence[Collection[str]], seed: int) -> list[int]:
    """Order rows so that each beginning of the order has about every label's share.

    A row belongs to the rarest of its labels. The rows of each label are shuffled and spread evenly over the order.

    Args:
        labels: For each row its labels; of several tasks as ``"<task>:<label>"``. A row may have none.
        seed: Which rows come first. The same seed and labels give the same order.

    Returns:
        The numbers of the rows. The first n of them are a training set of n rows, which those of larger ones hold.
    """
    counts = Counter(label for row in labels for label in row)
    rows_of: dict[str, list[int]] = {}
    for number, row in enumerate(labels):
        # By name where counts are equal: the order of a set differs from process to process.
        rarest = min(row, key=lambda label: (counts[label], label), default="")
        rows_of.setdefault(rarest, []).append(number)
    generator = random.Random(seed)  # noqa: S311 (no secret)
    places: list[tuple[float, float, int]] = []
    for label in sorted(rows_of):
        rows = rows_of[label]
        generator.shuffle(rows)
        # A random start keeps the rarest labels from all standing in the middle.
        start = generator.random()
        places += [((i + start) / len(rows), generator.random(), row) for i, row in enumerate(rows)]
    return [row for *_, row in sorted(places)]


def labels_of(dataset: datasets.Dataset, tasks: Sequence[TaskConfig]) -> list[set[str]]:
    """Return the labels of each row of a prepared split, as ``"<task>:<label>"``."""
    return [_names(row, tasks) for row in dataset["labels"]]


def _names(labels: Mapping[str, Any], tasks: Sequence[TaskConfig]) -> set[str]:
    names: set[str] = set()
    for task in tasks:
        value = labels[task.name]
        if task.problem_type == REGRESSION:
            continue
        if task.problem_type == MULTI_LABEL:
            ids = [i for i, given in enumerate(value) if given == 1]
        else:
            ids = value if task.is_token_task else [value]
        names.update(f"{task.name}:{task.id2label[i]}" for i in ids if i != IGNORE_INDEX)
    return names

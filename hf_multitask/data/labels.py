"""Label sets read from the training rows, and labels turned into ids."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..models.losses import IGNORE_INDEX
from ..models.names import unknown_name
from ..models.tag_schemes import OUTSIDE, entity_types, tags_of_types
from ..models.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TaskConfig
from .checks import words_of
from .rows import Row, Rows

NO_NUMBER = float("nan")


def complete_task(task: TaskConfig, train: Rows) -> TaskConfig:
    """Fill in what a task leaves to the data: its labels and its problem type.

    Labels are sorted by name; tags begin with ``O``, and each entity type has its B- and its I- tag.

    Args:
        task: The task.
        train: The training rows.

    Returns:
        The task with its labels, unless it is a regression without names.

    Raises:
        ValueError: If no training row has a label for the task, or the rows mix kinds of values.
    """
    values = [(i, row[str(task.column)]) for i, row in enumerate(train.rows) if row.get(str(task.column)) is not None]
    if not values:
        raise ValueError(f"{train.source}: task {task.name!r}: no row has a label in column {task.column!r}.")
    if task.is_token_task:
        if task.labels is not None:
            return task
        tags = {tag for _, row_tags in values for tag in row_tags if tag is not None}
        return dataclasses.replace(task, labels=[OUTSIDE, *tags_of_types(entity_types(tags))])
    problem_type = task.problem_type or _problem_type([value for _, value in values])
    for i, value in values:
        _check_kind(problem_type, value, f"{train.place(i)}: column {task.column!r}")
    task = dataclasses.replace(task, problem_type=problem_type)
    if problem_type == REGRESSION:
        lists = isinstance(values[0][1], list)
        if lists and task.labels is None:
            return dataclasses.replace(task, labels=[str(i) for i in range(len(values[0][1]))])
        return task
    if task.labels is not None:
        return task
    names = {name for _, value in values for name in (value if isinstance(value, list) else [value])}
    return dataclasses.replace(task, labels=[str(name) for name in sorted(names, key=_label_order)])


class LabelEncoder:
    """Turns the labels of rows into ids, numbers or `IGNORE_INDEX`, and counts what it can't.

    Args:
        tasks: The tasks, with their labels.
        unseen_labels: What to do with a label that its task does not have: ``"error"`` or ``"ignore"`` (it counts
            for no loss and no score).
    """

    def __init__(self, tasks: Sequence[TaskConfig], unseen_labels: str = "error") -> None:
        self.tasks = list(tasks)
        self.unseen_labels = unseen_labels
        self._label2id = {task.name: task.label2id for task in self.tasks}

    def encode(self, rows: Rows) -> tuple[list[dict[str, Any]], dict[str, Counter]]:
        """Encode the labels of all rows.

        Args:
            rows: The rows of a split.

        Returns:
            For each row the encoded labels by task; and by task, how often each unseen label occurs.

        Raises:
            ValueError: If ``unseen_labels`` is ``"error"`` and there are some; the message lists them with the place
                of the first.
        """
        unseen: dict[str, Counter] = {task.name: Counter() for task in self.tasks}
        first: dict[str, str] = {}
        encoded = []
        for i, row in enumerate(rows.rows):
            labels = {}
            for task in self.tasks:
                before = unseen[task.name].total()
                labels[task.name] = self._encode_one(task, row, unseen[task.name], rows, i)
                if unseen[task.name].total() > before:
                    first.setdefault(task.name, rows.place(i))
            encoded.append(labels)
        if self.unseen_labels == "error":
            self._refuse_unseen(unseen, first)
        return encoded, unseen

    def _encode_one(self, task: TaskConfig, row: Row, unseen: Counter, rows: Rows, i: int) -> Any:
        value = row.get(str(task.column))
        ids = self._label2id[task.name]
        if task.is_token_task:
            tags = value if value is not None else [None] * len(words_of(row))
            return [_known_id(ids, tag, unseen) for tag in tags]
        if value is not None:
            _check_kind(str(task.problem_type), value, f"{rows.place(i)}: column {task.column!r}")
        if task.problem_type == REGRESSION:
            missing = [NO_NUMBER] * task.num_labels
            numbers = missing if value is None else value if isinstance(value, list) else [value]
            if len(numbers) != task.num_labels:
                found = f"expected {task.num_labels} numbers, found {len(numbers)}"
                raise ValueError(f"{rows.place(i)}: column {task.column!r}: {found}.")
            return [float(number) for number in numbers]
        if task.problem_type == MULTI_LABEL:
            if value is None:
                return [NO_NUMBER] * task.num_labels
            present = {_known_id(ids, str(name), unseen) for name in value}
            return [float(label in present) for label in range(task.num_labels)]
        return _known_id(ids, None if value is None else str(value), unseen)

    def _refuse_unseen(self, unseen: dict[str, Counter], first: dict[str, str]) -> None:
        messages = []
        for task in self.tasks:
            if counts := unseen[task.name]:
                listed = ", ".join(f"{label!r} ({count} times)" for label, count in counts.most_common(20))
                closest = unknown_name("label", next(iter(counts)), task.labels or [])
                messages.append(
                    f"{first[task.name]}: task {task.name!r} does not know the labels {listed}; what it knows comes "
                    f"from train, unless `labels` is given. {closest}"
                )
        if messages:
            raise ValueError(
                "\n".join([*messages, "With unseen_labels='ignore' they count for no loss and no score."])
            )


def _known_id(ids: dict[str, int], label: str | None, unseen: Counter) -> int:
    if label is None:
        return IGNORE_INDEX
    if label not in ids:
        unseen[label] += 1
        return IGNORE_INDEX
    return ids[label]


def _problem_type(values: Sequence[Any]) -> str:
    first = values[0]
    if isinstance(first, list):
        return REGRESSION if first and all(isinstance(item, float) for item in first) else MULTI_LABEL
    return REGRESSION if isinstance(first, float) else SINGLE_LABEL


def _check_kind(problem_type: str, value: Any, place: str) -> None:
    """Refuse a value that does not fit the problem type."""
    items = value if isinstance(value, list) else [value]
    if problem_type == REGRESSION:
        wrong = [item for item in items if isinstance(item, (str, bool)) or item != item]
        expected = "a number"
    elif problem_type == MULTI_LABEL:
        wrong = [] if isinstance(value, list) else [value]
        expected = "a list of labels"
    else:
        wrong = [value] if isinstance(value, (list, float)) else []
        expected = "one label"
    if wrong:
        raise ValueError(f"{place}: expected {expected} ({problem_type}), found {wrong[0]!r}.")


def _label_order(label: Any) -> tuple[bool, float, str]:
    """Sort numbers by value in front of names."""
    is_number = isinstance(label, int)
    return (not is_number, label if is_number else 0.0, str(label))

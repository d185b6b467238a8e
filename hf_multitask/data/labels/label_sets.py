"""Label sets read from the training rows, and labels turned into ids."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from ...models.losses import IGNORE_INDEX
from ...models.messages import unknown_name_message
from ...models.tags_iob2 import OUTSIDE, entity_types, tags_of_types
from ...models.tags_schemes import is_tag_of, to_iob2
from ...models.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TaskConfig
from ...models.type_aliases import Row
from ..readers.rows import Rows
from .checks import words_of
from .tags import SchemeScan

NO_NUMBER = float("nan")
# Labels of which most occur once are refused beyond this number: the column rather holds texts or ids.
MAX_RARE_LABELS = 1000


class LabelScan:
    """Finds what a task leaves to the data - its labels and its problem type - while rows go by.

    Labels are sorted by name; tags begin with ``O``, and each entity type has its B- and its I- tag.

    Args:
        task: The task.
        tag_scheme: For a token task, the scheme that its tags are written in; recognised where None.
        declared: The label names that the dataset itself declares, in order; those that occur where None.
    """

    def __init__(self, task: TaskConfig, tag_scheme: str | None = None, declared: Sequence[str] | None = None) -> None:
        self.task = task
        self.tag_scheme = tag_scheme
        self.declared = declared
        self._tags = SchemeScan(str(task.column))
        self._problem_type = task.problem_type
        self._names: set[Any] = set()
        self._length = 0  # of the first list of numbers
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Take rows.

        Raises:
            ValueError: If the rows mix kinds of values. The message names file and line.
        """
        column = str(self.task.column)
        labelled = [(i, row[column]) for i, row in enumerate(rows.rows) if row.get(column) is not None]
        if self.task.is_token_task:
            self._tags.add(rows)
        elif labelled and self._problem_type is None:
            self._problem_type = _problem_type(labelled[0][1])
        if not self.task.is_token_task:
            for i, value in labelled:
                self._add_value(value, f"{rows.place(i)}: column {column!r}")
        self._rows += len(labelled)

    def _add_value(self, value: Any, place: str) -> None:
        _check_kind(str(self._problem_type), value, place)
        if self._problem_type != REGRESSION:
            self._names.update(value if isinstance(value, list) else [value])
        elif isinstance(value, list) and not self._length:
            self._length = len(value)

    def find_scheme(self) -> str:
        """Return the scheme of the tags: the one that is given, or what they look like.

        Raises:
            ValueError: If they fit no scheme.
        """
        return self.tag_scheme or self._tags.scheme()

    def complete(self, source: str) -> TaskConfig:
        """Return the task with its labels, unless it is a regression without names.

        Args:
            source: What messages call the rows' origin.

        Raises:
            ValueError: If no row has a label for the task, or its tags fit no scheme.
        """
        task = self.task
        if not self._rows:
            raise ValueError(f"{source}: task {task.name!r}: no row has a label in column {task.column!r}.")
        if task.is_token_task:
            self.tag_scheme = self.find_scheme()
            if task.labels is not None:
                return task
            found = [tag for tag in self.declared or self._tags.tags if is_tag_of(tag, self.tag_scheme)]
            tags = {to_iob2([tag], self.tag_scheme)[0] for tag in found}
            return dataclasses.replace(task, labels=[OUTSIDE, *tags_of_types(entity_types(map(str, tags)))])
        task = dataclasses.replace(task, problem_type=self._problem_type)
        if task.labels is not None:
            return task
        if self._problem_type == REGRESSION:
            return dataclasses.replace(task, labels=[str(i) for i in range(self._length)] or None)
        if self.declared is not None:
            return dataclasses.replace(task, labels=list(self.declared))
        if len(self._names) > max(MAX_RARE_LABELS, self._rows / 2):
            raise ValueError(
                f"{source}: task {task.name!r}: column {task.column!r} has {len(self._names):,} different labels in "
                f"{self._rows:,} rows, most of which occur once; is it the right column? Give `labels` if it is."
            )
        return dataclasses.replace(task, labels=[str(name) for name in sorted(self._names, key=_label_order)])


class LabelEncoder:
    """Turns the labels of rows into ids, numbers or `IGNORE_INDEX`, and counts what it can't.

    Args:
        tasks: The tasks, with their labels.
        labelled: Names of the tasks that the rows are labelled for; all others have no label in them.
        unseen_labels: What to do with a label that its task does not have: ``"error"`` or ``"ignore"`` (it counts
            for no loss and no score).
    """

    def __init__(self, tasks: Sequence[TaskConfig], labelled: Collection[str], unseen_labels: str = "error") -> None:
        self.tasks = list(tasks)
        self.labelled = set(labelled)
        self.unseen_labels = unseen_labels
        self._label2id = {task.name: task.label2id for task in self.tasks}

    def encode(self, rows: Rows) -> tuple[list[dict[str, Any]], dict[str, Counter]]:
        """Encode the labels of all rows.

        Args:
            rows: The rows.

        Returns:
            For each row the encoded labels by task; and by task, how often each unseen label occurs.

        Raises:
            ValueError: If ``unseen_labels`` is ``"error"`` and there are some; the message lists them with the place
                of the first.
        """
        unseen: dict[str, Counter] = {task.name: Counter() for task in self.tasks if task.name in self.labelled}
        first: dict[str, str] = {}
        encoded = []
        for i, row in enumerate(rows.rows):
            labels = {}
            for task in self.tasks:
                missed: list[str] = []
                labels[task.name] = self._encode_one(task, row, rows, i, missed)
                if missed:
                    unseen[task.name].update(missed)
                    first.setdefault(task.name, rows.place(i))
            encoded.append(labels)
        if self.unseen_labels == "error":
            self._refuse_unseen(unseen, first)
        return encoded, unseen

    def _encode_one(self, task: TaskConfig, row: Row, rows: Rows, i: int, missed: list[str]) -> Any:
        value = row.get(str(task.column)) if task.name in self.labelled else None
        ids = self._label2id[task.name]
        if task.is_token_task:
            tags = value if value is not None else [None] * len(words_of(row))
            return [_known_id(ids, tag, missed) for tag in tags]
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
            present = {_known_id(ids, str(name), missed) for name in value}
            return [float(label in present) for label in range(task.num_labels)]
        return _known_id(ids, None if value is None else str(value), missed)

    def _refuse_unseen(self, unseen: dict[str, Counter], first: dict[str, str]) -> None:
        messages = []
        for task in self.tasks:
            if counts := unseen.get(task.name):
                listed = ", ".join(f"{label!r} ({count} times)" for label, count in counts.most_common(20))
                closest = unknown_name_message("label", next(iter(counts)), task.labels or [])
                messages.append(
                    f"{first[task.name]}: task {task.name!r} does not know the labels {listed}; what it knows comes "
                    f"from train, unless `labels` is given. {closest}"
                )
        if messages:
            raise ValueError(
                "\n".join([*messages, "With unseen_labels='ignore' they count for no loss and no score."])
            )


def _known_id(ids: dict[str, int], label: str | None, missed: list[str]) -> int:
    if label is None:
        return IGNORE_INDEX
    if label not in ids:
        missed.append(label)
    return ids.get(label, IGNORE_INDEX)


def _problem_type(first: Any) -> str:
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

"""Label sets of the training rows, and encoding of labels as ids."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence

from ...models.losses import IGNORE_INDEX
from ...models.messages import unknown_name_message
from ...models.tags_iob2 import OUTSIDE, entity_types, tags_of_types
from ...models.tags_schemes import RAW, is_tag_of, to_iob2
from ...models.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TaskConfig
from ...models.type_aliases import Row
from ..readers.rows import Rows
from .checks import words_of
from .label_notes import label_notes
from .outside_tag import check_outside
from .tags import SchemeScan
from .unseen_labels import OUT_OF_SCOPE, SCOPE_COLUMN, unseen_id
from .values import class_name, is_binary

NO_NUMBER = float("nan")
# More labels, most of which occur once, are refused: the column probably contains texts or ids.
MAX_RARE_LABELS = 1000
# More different whole numbers are quantities.
MAX_OPEN_NUMBERS = 20


class LabelScan:
    """Infers the labels and the problem type of a task from its rows, as far as the task leaves them open.

    Labels are sorted by name. Tags start with ``O``, followed by the B- and I- tag of each entity type.

    Args:
        task: The task.
        tag_scheme: Tag scheme of a token task; inferred from the tags if None.
        declared: Label names that the dataset declares, in order; the labels that occur if None.
        has_outside: Whether the config names the tag of words outside of all entities; recognized if not.
    """

    def __init__(
        self,
        task: TaskConfig,
        tag_scheme: str | None = None,
        declared: Sequence[str] | None = None,
        has_outside: bool = False,
    ) -> None:
        self.task = task
        self.tag_scheme = tag_scheme
        self.declared = declared
        self.outside: str | None = None
        self._has_outside = has_outside
        self._tags = SchemeScan(str(task.column))
        self._problem_type = task.problem_type
        self._names: Counter[str] = Counter()
        self._values: dict[str, object] = {}  # of each name, the value that decides on its order
        self._num_numbers = 0  # in the first list of numbers
        self._open = _OpenNumbers()
        self._is_open = task.problem_type is None or (task.problem_type == MULTI_LABEL and task.labels is None)
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Add rows.

        Raises:
            ValueError: If the rows mix kinds of values. The message names file and line.
        """
        column = str(self.task.column)
        labeled = [(i, row[column]) for i, row in enumerate(rows.rows) if row.get(column) is not None]
        if self.task.is_token_task:
            self._tags.add(rows)
        elif labeled and self._problem_type is None:
            self._problem_type = _problem_type(labeled[0][1])
        if not self.task.is_token_task:
            for i, value in labeled:
                self._add_value(value, f"{rows.place(i)}: column {column!r}")
        self._rows += len(labeled)

    def _add_value(self, value: object, place: str) -> None:
        _check_kind(str(self._problem_type), value, place)
        items = value if isinstance(value, list) else [value]
        if self._is_open and not isinstance(items[0] if items else None, str):
            self._open.add(value)
        if self._problem_type == REGRESSION:
            if isinstance(value, list) and not self._num_numbers:
                self._num_numbers = len(value)
            return
        for item in items:
            name = item if isinstance(item, str) else class_name(item)
            if name == self.task.out_of_scope:
                continue
            self._names[name] += 1
            if name not in self._values or not isinstance(item, str):
                self._values[name] = int(item) if isinstance(item, float) and item.is_integer() else item

    def find_scheme(self, source: str) -> str:
        """Return the given tag scheme, or the scheme inferred from the tags; and find the tag that stands for ``O``.

        Args:
            source: Name of the origin of the rows in messages.

        Raises:
            ValueError: If the tags fit no scheme, or no tag stands for words outside of all entities.
        """
        if not self._has_outside:
            self.outside = self._tags.recognize_outside()
        scheme = self.tag_scheme or self._tags.scheme()
        if not self._has_outside:
            try:
                check_outside(self._tags.counts, scheme, self.tag_scheme is not None)
            except ValueError as error:
                place = f"{source}: task {self.task.name!r}: column {self.task.column!r}"
                raise ValueError(f"{place}: {error}") from error
        return scheme

    def notes(self) -> list[str]:
        """Return remarks on labels that are probably mistakes; see `label_notes`."""
        if not self.task.is_token_task:
            return [] if self._problem_type == REGRESSION else label_notes(self.task, self._names)
        types: Counter[str] = Counter()
        for tag, count in self._tags.counts.items():
            if tag != OUTSIDE:
                types[tag if self.tag_scheme == RAW else tag[2:]] += count
        return label_notes(self.task, types)

    def complete(self, source: str) -> TaskConfig:
        """Return the task with its labels, except for a regression without names.

        Args:
            source: Name of the origin of the rows in messages.

        Raises:
            ValueError: If no row has a label for the task, or its tags fit no scheme.
        """
        task = self.task
        if not self._rows:
            raise ValueError(f"{source}: task {task.name!r}: no row has a label in column {task.column!r}.")
        if task.is_token_task:
            self.tag_scheme = self.find_scheme(source)
            if task.labels is not None:
                return task
            named = [OUTSIDE if tag == self.outside else tag for tag in self.declared or self._tags.counts]
            valid = [tag for tag in named if is_tag_of(tag, self.tag_scheme)]
            tags = {to_iob2([tag], self.tag_scheme)[0] for tag in valid}
            return dataclasses.replace(task, labels=[OUTSIDE, *tags_of_types(entity_types(map(str, tags)))])
        if self.declared is None:
            self._open.check(task, f"{source}: task {task.name!r}: column {task.column!r}")
        task = dataclasses.replace(task, problem_type=self._problem_type)
        if task.labels is not None:
            return task
        if self._problem_type == REGRESSION:
            return dataclasses.replace(task, labels=[str(i) for i in range(self._num_numbers)] or None)
        if self.declared is not None:
            return dataclasses.replace(task, labels=[name for name in self.declared if name != task.out_of_scope])
        if len(self._names) > max(MAX_RARE_LABELS, self._rows / 2):
            raise ValueError(
                f"{source}: task {task.name!r}: column {task.column!r} has {len(self._names):,} different labels in "
                f"{self._rows:,} rows, most of which occur once; is it the right column? Give `labels` if it is."
            )
        return dataclasses.replace(task, labels=sorted(self._names, key=lambda name: _label_order(self._values[name])))


class _OpenNumbers:
    """Numbers of a task whose config does not say whether they are quantities or classes."""

    def __init__(self) -> None:
        self._wholes: set[float] = set()
        self._lengths: set[int] = set()
        self._is_decided = False

    def add(self, value: object) -> None:
        """Add the value of a row."""
        if self._is_decided:
            return
        items = value if isinstance(value, list) else [value]
        self._lengths.add(len(items) if isinstance(value, list) else 0)
        if any(isinstance(item, str) or (isinstance(item, float) and not item.is_integer()) for item in items):
            self._is_decided = True
        self._wholes.update(item for item in items if isinstance(item, (int, float)))
        # Classes are few. Whole numbers without a list are classes if they are no floats.
        is_open = isinstance(value, (list, float))
        self._is_decided |= not is_open or len(self._wholes) > MAX_OPEN_NUMBERS

    def check(self, task: TaskConfig, place: str) -> None:
        """Raise if all numbers may be classes."""
        if self._is_decided or not self._wholes:
            return
        shown = ", ".join(f"{number!r}" for number in sorted(self._wholes))
        if self._lengths == {0} and task.problem_type is None:
            raise ValueError(
                f"{place} has only the whole numbers {shown} as floats, as pandas writes a column with gaps. Give "
                f"`problem_type: {SINGLE_LABEL}` if they are classes, or `problem_type: {REGRESSION}` if they are "
                "quantities."
            )
        if len(self._lengths) == 1 and not self._lengths & {0, 1} and is_binary(list(self._wholes)):
            are_floats = any(isinstance(number, float) for number in self._wholes)
            other = (
                f"`problem_type: {REGRESSION}`, if they are quantities" if are_floats else "write the names instead"
            )
            raise ValueError(
                f"{place} has {self._lengths.pop()} numbers 0 and 1 per row. Give `problem_type: {MULTI_LABEL}` and "
                f"as many `labels`, in their order, if each says whether a class is present; or {other}."
            )


class LabelEncoder:
    """Encodes the labels of rows as ids, numbers or `IGNORE_INDEX`, and counts unseen labels.

    Args:
        tasks: The tasks, with their labels.
        labeled: Names of the tasks that the rows are labeled for. Other tasks have no label in any row.
        unseen_labels: How to treat a label that its task does not have: ``"error"`` or ``"ignore"`` (it counts for no
            loss).
        keeps_unseen: Whether such labels get an id, so that metrics count them as wrong, or are missing labels; and
            whether rows out of scope get `OUT_OF_SCOPE`.
        keeps_outliers: Whether rows out of scope get `OUT_OF_SCOPE` where a loss counts them.
    """

    def __init__(
        self,
        tasks: Sequence[TaskConfig],
        labeled: Collection[str],
        unseen_labels: str = "error",
        keeps_unseen: bool = False,
        keeps_outliers: bool = False,
    ) -> None:
        self.tasks = list(tasks)
        self.labeled = set(labeled)
        self.unseen_labels = unseen_labels
        self.keeps_unseen = keeps_unseen
        self.keeps_outliers = keeps_outliers
        self._label2id = {task.name: task.label2id for task in self.tasks}

    def encode(self, rows: Rows) -> tuple[list[Row], dict[str, Counter[str]]]:
        """Encode the labels of all rows.

        Args:
            rows: The rows.

        Returns:
            The encoded labels of each row by task, and the counts of unseen labels by task.

        Raises:
            ValueError: If ``unseen_labels`` is ``"error"`` and labels are unseen. The message lists them and the
                location of the first.
        """
        unseen: dict[str, Counter[str]] = {task.name: Counter() for task in self.tasks if task.name in self.labeled}
        first: dict[str, str] = {}
        encoded = []
        for i, row in enumerate(rows.rows):
            labels: Row = {}
            for task in self.tasks:
                unknown: list[str] = []
                labels[task.name] = self._encode_one(task, row, rows, i, unknown)
                if unknown:
                    unseen[task.name].update(unknown)
                    first.setdefault(task.name, rows.place(i))
            encoded.append(labels)
        if self.unseen_labels == "error":
            self._refuse_unseen(unseen, first)
        return encoded, unseen

    def _encode_one(self, task: TaskConfig, row: Row, rows: Rows, i: int, unknown: list[str]) -> object:
        """Encode the label of a task and append the unseen labels to ``unknown``."""
        value = row.get(str(task.column)) if task.name in self.labeled else None
        if SCOPE_COLUMN in row and task.has_scope and task.name in self.labeled:
            return self._scope_id(task)
        if task.is_token_task:
            tags = value if value is not None else [None] * len(words_of(row))
            return [self._id_of(task, tag, unknown) for tag in tags]
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
            present = {self._id_of(task, class_name(name), unknown) for name in value}
            unseen = sorted(label for label in present if label < IGNORE_INDEX)
            return [*(float(label in present) for label in range(task.num_labels)), *map(float, unseen)]
        return self._id_of(task, None if value is None else class_name(value), unknown)

    def _id_of(self, task: TaskConfig, label: str | None, unknown: list[str]) -> int:
        if label is None:
            return IGNORE_INDEX
        known = self._label2id[task.name].get(label)
        if known is not None:
            return known
        if label == task.out_of_scope:
            return self._scope_id(task)
        unknown.append(label)
        return unseen_id(task, label) if self.keeps_unseen else IGNORE_INDEX

    def _scope_id(self, task: TaskConfig) -> int:
        is_kept = self.keeps_unseen or (self.keeps_outliers and task.outlier_weight > 0)
        return OUT_OF_SCOPE if is_kept else IGNORE_INDEX

    def _refuse_unseen(self, unseen: dict[str, Counter[str]], first: dict[str, str]) -> None:
        messages = []
        for task in self.tasks:
            if counts := unseen.get(task.name):
                listed = ", ".join(f"{label!r} ({count} times)" for label, count in counts.most_common(20))
                closest = unknown_name_message("label", next(iter(counts)), task.labels or [])
                messages.append(
                    f"{first[task.name]}: task {task.name!r} does not know the labels {listed}; its labels come "
                    f"from train, unless `labels` is given. {closest}"
                )
        if messages:
            raise ValueError(
                "\n".join(
                    [
                        *messages,
                        "With unseen_labels='ignore', no loss counts them, and evaluations count them as wrong.",
                    ]
                )
            )


def _problem_type(first: object) -> str:
    if isinstance(first, list):
        return REGRESSION if first and all(isinstance(item, float) for item in first) else MULTI_LABEL
    return REGRESSION if isinstance(first, float) else SINGLE_LABEL


def _check_kind(problem_type: str, value: object, place: str) -> None:
    """Raise if a value does not fit the problem type."""
    items = value if isinstance(value, list) else [value]
    if problem_type == REGRESSION:
        wrong = [item for item in items if isinstance(item, (str, bool)) or item != item]
        expected = "a number"
    elif problem_type == MULTI_LABEL:
        wrong = [] if isinstance(value, list) else [value]
        expected = "a list of labels"
    else:
        is_fraction = isinstance(value, float) and not value.is_integer()
        wrong = [value] if isinstance(value, list) or is_fraction else []
        expected = "one label"
    if wrong:
        hint = f" Give `problem_type: {REGRESSION}` for numbers." if isinstance(wrong[0], float) else ""
        raise ValueError(f"{place}: expected {expected} ({problem_type}), found {wrong[0]!r}.{hint}")


def _label_order(label: object) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by value, before names."""
    if isinstance(label, int):
        return False, label, str(label)
    return True, 0.0, str(label)

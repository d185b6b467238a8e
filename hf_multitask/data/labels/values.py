"""What the values of a task's column mean: which are classes, numbers, tags or spans, and which are no label.

| Value | Read as |
|---|---|
| text | a class, without white space at its edges |
| blank text, NaN, a value of ``missing_labels`` | no label |
| whole number, also as a float where classes are expected | a class, or its position in ``labels`` |
| list or cell ``[…]`` | several classes; tags or spans of a token task |
| list of as many 0 and 1 as there are labels; mapping of classes to 0 and 1 | the classes with a 1 |
| text with ``label_separator`` | several classes |
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...models.tags_iob2 import OUTSIDE
from ...models.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TaskConfig
from ..readers.cells import is_list_cell, parse_list, split_cell
from ..readers.reading_options import log_guess
from ..readers.rows import Rows

# Ids that datasets have for items without a label.
_NO_CLASS_IDS = (-1, -100)


@dataclass(frozen=True)
class LabelOptions:
    """How labels are written in the rows.

    Args:
        separator: Separates several classes in a text, as in ``news|work``.
        missing: Texts that mean that there is no label, such as ``nan``.
        outside_tag: Tag of words outside of all entities, besides ``O``.
    """

    separator: str | None = None
    missing: Collection[str] = ()
    outside_tag: str | None = None


def read_values(rows: Rows, tasks: Sequence[TaskConfig], options: LabelOptions) -> None:
    """Convert the values of sequence tasks to classes, lists of classes and numbers, in place.

    Args:
        rows: The rows of a split.
        tasks: The tasks.
        options: How labels are written.

    Raises:
        ValueError: If a value cannot be read. The message names file and line.
    """
    for task in tasks:
        if task.is_token_task:
            continue
        column, reader = str(task.column), _ValueReader(task, options)
        for i, row in enumerate(rows.rows):
            value = row.get(column)
            if value is None:
                continue
            try:
                row[column] = reader.read(value)
            except ValueError as error:
                raise ValueError(f"{rows.place(i)}: column {column!r}: {error}") from error


def read_tag_cells(rows: Rows, task: TaskConfig, options: LabelOptions) -> None:
    """Convert the values of a token task to lists of tags or of spans, in place.

    Args:
        rows: The rows of a split.
        task: The token task.
        options: How tags are written.

    Raises:
        ValueError: If a cell has the form of a list but is not one. The message names file and line.
    """
    column = str(task.column)
    names = _Names(task, options)
    outside = options.outside_tag if options.outside_tag != OUTSIDE else None
    for i, row in enumerate(rows.rows):
        value = row.get(column)
        if isinstance(value, str):
            try:
                value = row[column] = split_cell(value) if value.strip() else None
            except ValueError as error:
                raise ValueError(f"{rows.place(i)}: column {column!r}: {error}") from error
        elif isinstance(value, Mapping) and _is_columns_of_spans(value):
            value = row[column] = [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
        if isinstance(value, list) and value and not isinstance(value[0], (list, tuple, Mapping)):
            if not _is_plain(value) or (names.by_position and _is_number(value[0])):
                value = row[column] = [names.read_tag(tag) for tag in value]
            if outside is not None:
                row[column] = [OUTSIDE if tag == outside else tag for tag in value]


class _Names:
    """The names of a task's classes."""

    def __init__(self, task: TaskConfig, options: LabelOptions) -> None:
        self.task, self.missing = task, set(options.missing)
        self.labels = task.labels
        self.known = set(task.labels or ())
        # A number is a position only if it cannot be a name.
        self.by_position = bool(task.labels) and not any(map(_is_number, task.labels or ()))

    def read(self, item: object) -> object:
        """Return a class, or None if the item is none."""
        if isinstance(item, str):
            item = item.strip()
            if not item:
                return None
        elif isinstance(item, float):
            if math.isnan(item):
                return None
            item = int(item) if item.is_integer() else item
        name = str(item)
        if name in self.missing:
            return None
        if not self.known or name in self.known:
            return item
        number = _whole_number(name)
        if number is None or isinstance(item, bool):
            return item
        if not self.by_position:
            return str(number) if str(number) in self.known else item
        return self._at(number, item)

    def read_tag(self, tag: object) -> object:
        """Return a tag without white space at its edges; None for NaN and for ids of words without a tag."""
        if isinstance(tag, str):
            tag = tag.strip()
        elif isinstance(tag, float) and math.isnan(tag):
            return None
        number = None if isinstance(tag, bool) else _whole_number(str(tag))
        if number is None or not self.by_position or tag in self.known:
            return tag
        return self._at(number, tag)

    def _at(self, number: int, item: object) -> object:
        labels = self.labels or []
        if number in _NO_CLASS_IDS:
            return None
        if not 0 <= number < len(labels):
            return item
        log_guess(
            f"task {self.task.name!r}: numbers in column {self.task.column!r} are positions in its labels, from 0."
        )
        return labels[number]


class _ValueReader:
    """Reads the values of a sequence task."""

    def __init__(self, task: TaskConfig, options: LabelOptions) -> None:
        self.task, self.separator = task, options.separator
        self.problem_type = task.problem_type
        self.names = _Names(task, options)
        # A single number is a class if there are several classes, whose names would be those of several numbers.
        self.has_classes = self.problem_type in (SINGLE_LABEL, MULTI_LABEL) or (
            self.problem_type is None and len(task.labels or ()) > 1
        )

    def read(self, value: object) -> object:
        """Return a class, a list of classes, a number, a list of numbers, or None."""
        if isinstance(value, str):
            value = self._parsed(value.strip())
        if isinstance(value, Mapping):
            value = _chosen(value)
        if isinstance(value, list):
            return self._read_list(value)
        if isinstance(value, float) and not self.has_classes:
            return _checked_number(value)
        if value is None or self.problem_type == REGRESSION:
            return value
        value = self.names.read(value)
        return [value] if self.problem_type == MULTI_LABEL and isinstance(value, str) else value

    def _parsed(self, text: str) -> object:
        if not text or text in self.names.missing:
            return None
        if self.problem_type == REGRESSION:
            return parse_list(text) if is_list_cell(text) else _number(text)
        if is_list_cell(text):
            try:
                return parse_list(text)
            except ValueError:
                if self.problem_type == MULTI_LABEL:
                    raise
                return text
        if text.startswith("[") and self.problem_type == MULTI_LABEL:
            raise ValueError(f"expected a JSON list of labels, found {text!r:.80}.")
        if self.separator is not None and self.problem_type != SINGLE_LABEL:
            return [part for part in map(str.strip, text.split(self.separator)) if part]
        return text

    def _read_list(self, values: list[object]) -> object:
        if self.problem_type == REGRESSION or (self.problem_type is None and _are_floats(values)):
            return [_checked_number(value) if isinstance(value, float) else value for value in values]
        if self._is_multi_hot(values):
            return [label for label, value in zip(self.task.labels or (), values, strict=True) if value]
        classes = [name for name in map(self.names.read, values) if name is not None]
        if self.problem_type == SINGLE_LABEL and len(values) == 1:
            return classes[0] if classes else None
        return classes

    def _is_multi_hot(self, values: list[object]) -> bool:
        if self.problem_type == SINGLE_LABEL or len(values) < 2 or not is_binary(values):
            return False
        repeats = len(set(values)) < len(values)
        if len(values) == len(self.task.labels or ()):
            return repeats or self.names.by_position
        if repeats and self.task.labels:
            raise ValueError(
                f"found {len(values)} numbers 0 and 1, expected one for each of the {len(self.task.labels)} labels: "
                f"{', '.join(self.task.labels[:20])}."
            )
        return False


def class_name(value: object) -> str:
    """Return the name of a class: its text, or its number, which may be a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_binary(values: Sequence[object]) -> bool:
    """Return whether all values are 0 or 1."""
    return all(isinstance(value, (int, float)) and value in (0, 1) for value in values)


def _chosen(classes: Mapping) -> list[object]:
    if not is_binary(list(classes.values())):
        raise ValueError(f"expected 0 or 1 for each class, found {dict(classes)!r:.80}.")
    return [name for name, value in classes.items() if value]


def _is_columns_of_spans(value: Mapping[str, object]) -> bool:
    """Return whether spans are written as a list per key."""
    if not value:
        return False
    lengths = {len(items) if isinstance(items, list) else -1 for items in value.values()}
    return len(lengths) == 1 and -1 not in lengths


def _is_plain(tags: Sequence[object]) -> bool:
    """Return whether all tags are texts without white space."""
    try:
        joined = "".join(tags)  # type: ignore[arg-type]
    except TypeError:
        return False
    return len(joined.split(None, 1)) == 1 and not joined[0].isspace() and not joined[-1].isspace()


def _are_floats(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, float) for value in values)


def _checked_number(value: float) -> float | None:
    if math.isinf(value):
        raise ValueError(f"expected a number, found {value!r}.")
    return None if math.isnan(value) else value


def _number(text: str) -> float | None:
    try:
        return _checked_number(float(text))
    except ValueError as error:
        raise ValueError(f"expected a number, found {text!r:.80}.") from error


def _is_number(name: str) -> bool:
    return _whole_number(name) is not None


def _whole_number(name: str) -> int | None:
    """Return the whole number that a text is, such as ``1``, ``-1`` or ``1.0``."""
    digits = name.removesuffix(".0").removeprefix("-")
    # A very long number is no id.
    return int(name.removesuffix(".0")) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None

"""Rows of a split, with their locations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets

from ...models.collator import columns_to_rows
from ...models.messages import unknown_name_message
from ...models.type_aliases import Row


class LocatedRow(NamedTuple):
    """A row and its location.

    Args:
        row: Values by column.
        line: Line of the row in its file; None if it has none.
        word_lines: Line of each word, if the file has a word per line.
    """

    row: Row
    line: int | None
    word_lines: list[int]


class BrokenRow(NamedTuple):
    """A row that cannot be read, among others that can.

    Args:
        error: The reason. Its message names the file, and the line or the row.
        line: Line of the row in its file; None if it has none.
    """

    error: ValueError
    line: int | None


def unplaced(row: Row) -> LocatedRow:
    """Return a row that has no line in a file."""
    return LocatedRow(row, None, [])


@dataclass
class Rows:
    """All rows of a split, or some of them.

    Args:
        source: Name of the file or dataset in messages.
        rows: The rows, with their values by column.
        line_numbers: Line of each row, if they come from a file with lines.
        word_lines: Line of each word of each row, if the file has a word per line.
        numbers: Index of each row in the split, from 0. Not needed for all rows of a split.
    """

    source: str
    rows: list[Row]
    line_numbers: list[int] = field(default_factory=list)
    word_lines: list[list[int]] = field(default_factory=list)
    numbers: Sequence[int] = ()

    @classmethod
    def collect(cls, source: str, rows: Iterable[LocatedRow], numbers: Sequence[int] = ()) -> "Rows":
        """Collect rows that are read lazily."""
        located = list(rows)
        lines = [line for _, line, _ in located if line is not None]
        words = [word_lines for _, _, word_lines in located]
        return cls(source, [row for row, _, _ in located], lines, words if any(words) else [], numbers)

    def place(self, i: int, word: int | None = None) -> str:
        """Return the location of row ``i``, or of one of its words, as messages show it."""
        if word is not None and self.word_lines:
            return f"{self.source}:{self.word_lines[i][word]}"
        if self.line_numbers:
            return f"{self.source}:{self.line_numbers[i]}"
        return f"{self.source}, row {self.numbers[i] if self.numbers else i}"

    def take(self, chosen: Sequence[int]) -> "Rows":
        """Return some of the rows, with their locations."""
        return Rows(
            self.source,
            [self.rows[i] for i in chosen],
            [self.line_numbers[i] for i in chosen] if self.line_numbers else [],
            [self.word_lines[i] for i in chosen] if self.word_lines else [],
            [self.numbers[i] for i in chosen] if self.numbers else list(chosen),
        )

    def extend(self, others: "Rows") -> None:
        """Add rows of another source. Only rows of this one keep their locations in messages."""
        first = len(self.rows)
        self.rows += others.rows
        if self.line_numbers:
            self.line_numbers += others.line_numbers or [0] * len(others.rows)
        if self.word_lines:
            self.word_lines += [[] for _ in others.rows]
        if self.numbers:
            self.numbers = [*self.numbers, *range(first, first + len(others.rows))]

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they first occur."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def rename_columns(
    rows: Iterable[LocatedRow], columns: Mapping[str, str | int] | None, source: str
) -> Iterator[LocatedRow]:
    """Rename columns to the library's names.

    Args:
        rows: The rows.
        columns: By the library's name of a column, its name in the rows.
        source: Name of the origin of the rows in messages.

    Yields:
        The renamed rows, with the same locations.

    Raises:
        ValueError: After the last row, if no row has one of the columns. The message names the existing columns.
    """
    if not columns:
        yield from rows
        return
    found: dict[str, None] = {}
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    for row, line, word_lines in rows:
        if not row.keys() <= found.keys():
            found.update(dict.fromkeys(row))
        yield LocatedRow({ours_of.get(name, name): value for name, value in row.items()}, line, word_lines)
    for ours, theirs in columns.items():
        if found and theirs not in found:
            raise ValueError(f"{source}: columns.{ours}: {unknown_name_message('column', theirs, found)}")


def rename_row(row: Row, columns: Mapping[str, str | int]) -> Row:
    """Return a row with the library's names of columns; see `rename_columns`."""
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    return {ours_of.get(name, name): value for name, value in row.items()}


def dataset_rows(dataset: datasets.Dataset | datasets.IterableDataset) -> Iterator[Row]:
    """Yield the rows of a dataset, with label names instead of the ids of `ClassLabel` columns."""
    for batch in dataset.with_format(None).iter(batch_size=1000):
        yield from with_label_names(columns_to_rows(batch), dataset.features)


def with_label_names(rows: Sequence[Row], features: datasets.Features | None) -> Sequence[Row]:
    """Replace the ids of `ClassLabel` columns by label names, in place.

    Args:
        rows: The rows.
        features: Features of the columns, if known.

    Returns:
        The rows. An id of -1 becomes None.
    """
    for column, feature in (features or {}).items():
        if _has_class_label(feature):
            for row in rows:
                row[column] = _with_names(feature, row[column], column)
    return rows


def _has_class_label(feature: object) -> bool:
    if isinstance(feature, dict):
        return any(map(_has_class_label, feature.values()))
    inner = getattr(feature, "feature", None)  # of a list
    return isinstance(feature, datasets.ClassLabel) or (inner is not None and _has_class_label(inner))


def _with_names(feature: Any, value: Any, column: str) -> object:
    if value is None:
        return None
    if isinstance(feature, dict):
        return {key: _with_names(feature.get(key), item, column) for key, item in value.items()}
    if isinstance(value, list):
        inner = getattr(feature, "feature", feature)
        return [_with_names(inner, item, column) for item in value]
    if not isinstance(feature, datasets.ClassLabel):
        return value
    if value < 0:
        return None
    if not value < feature.num_classes:
        raise ValueError(f"column {column!r}: the class {value!r} has no name; there are {feature.num_classes} names.")
    return feature.int2str(value)

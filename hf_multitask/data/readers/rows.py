"""The rows of a split, each with the place it came from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets

from ...models.collator import columns_to_rows
from ...models.messages import unknown_name_message
from ...models.type_aliases import Row


class LocatedRow(NamedTuple):
    """A row and where it stands.

    Args:
        row: A mapping of column names to values.
        line: Its line, where it came from a file.
        word_lines: The line of each word, where the file has one a line.
    """

    row: Row
    line: int | None
    word_lines: list[int]


def unplaced(row: Row) -> LocatedRow:
    """Return a row that came from no line of a file."""
    return LocatedRow(row, None, [])


@dataclass
class Rows:
    """Rows of one split, all or some that follow each other.

    Args:
        source: The file or dataset that they came from.
        rows: The rows, each a mapping of column names to values.
        line_numbers: The line of each row, where they came from a file.
        word_lines: The line of each word of each row, where a file has one a line.
        numbers: Number of each row in the split, from 0; where they are all of its rows, none are needed.
    """

    source: str
    rows: list[Row]
    line_numbers: list[int] = field(default_factory=list)
    word_lines: list[list[int]] = field(default_factory=list)
    numbers: Sequence[int] = ()

    @classmethod
    def collect(cls, source: str, rows: Iterable[LocatedRow], numbers: Sequence[int] = ()) -> "Rows":
        """Gather rows that are read one after the other."""
        located = list(rows)
        lines = [line for _, line, _ in located if line is not None]
        words = [word_lines for _, _, word_lines in located]
        return cls(source, [row for row, _, _ in located], lines, words if any(words) else [], numbers)

    def place(self, i: int, word: int | None = None) -> str:
        """Return where row ``i``, or a word of it, stands, as an error message names it."""
        if word is not None and self.word_lines:
            return f"{self.source}:{self.word_lines[i][word]}"
        if self.line_numbers:
            return f"{self.source}:{self.line_numbers[i]}"
        return f"{self.source}, row {self.numbers[i] if self.numbers else i}"

    def take(self, chosen: Sequence[int]) -> "Rows":
        """Return some of the rows, which keep their places."""
        return Rows(
            self.source,
            [self.rows[i] for i in chosen],
            [self.line_numbers[i] for i in chosen] if self.line_numbers else [],
            [self.word_lines[i] for i in chosen] if self.word_lines else [],
            [self.numbers[i] for i in chosen] if self.numbers else list(chosen),
        )

    @property
    def columns(self) -> list[str]:
        """The columns that occur, in the order of their first row."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def rename_columns(
    rows: Iterable[LocatedRow], columns: Mapping[str, str | int] | None, source: str
) -> Iterator[LocatedRow]:
    """Give columns our names.

    Args:
        rows: The rows.
        columns: By our name of a column, its name in the rows.
        source: What messages call the rows' origin.

    Yields:
        The rows, with the same places.

    Raises:
        ValueError: Behind the last row, if none had such a column. The message names those that there are.
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
    """Return a row with our names of its columns; see `rename_columns`."""
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    return {ours_of.get(name, name): value for name, value in row.items()}


def dataset_rows(dataset: datasets.Dataset | datasets.IterableDataset) -> Iterator[Row]:
    """Yield the rows of a dataset, with names instead of the ids of `ClassLabel` columns."""
    for batch in dataset.with_format(None).iter(batch_size=1000):
        yield from with_label_names(columns_to_rows(batch), dataset.features)


def with_label_names(rows: Sequence[Row], features: datasets.Features | None) -> Sequence[Row]:
    """Replace the ids of `ClassLabel` columns by their names, in place.

    Args:
        rows: The rows.
        features: What the columns hold, where it is known.

    Returns:
        The rows; an id of -1 has become None.
    """
    for column, feature in (features or {}).items():
        label = getattr(feature, "feature", feature)
        if isinstance(label, datasets.ClassLabel):
            for row in rows:
                row[column] = _label_names(label, row[column])
    return rows


def _label_names(label: datasets.ClassLabel, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_label_names(label, item) for item in value]
    return None if value < 0 else label.int2str(value)

"""The rows of a split, each with the place it came from."""

from dataclasses import dataclass, field
from typing import Any

import datasets

TEXT_COLUMN = "text"
TOKENS_COLUMN = "tokens"

Row = dict[str, Any]


@dataclass
class Rows:
    """The rows of one split.

    Args:
        source: The file or data set that they came from.
        rows: The rows, each a mapping of column names to values.
        line_numbers: The line of each row, where they came from a file.
        word_lines: The line of each word of each row, where a file has one a line.
    """

    source: str
    rows: list[Row]
    line_numbers: list[int] = field(default_factory=list)
    word_lines: list[list[int]] = field(default_factory=list)

    def place(self, i: int, word: int | None = None) -> str:
        """Return where row ``i``, or a word of it, stands, as an error message names it."""
        if word is not None and self.word_lines:
            return f"{self.source}:{self.word_lines[i][word]}"
        return f"{self.source}:{self.line_numbers[i]}" if self.line_numbers else f"{self.source}, row {i}"

    @property
    def columns(self) -> list[str]:
        """The columns that occur, in the order of their first row."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def with_label_names(dataset: datasets.Dataset) -> datasets.Dataset:
    """Replace the ids of `ClassLabel` columns by their names.

    Args:
        dataset: A data set.

    Returns:
        The data set; an id of -1 has become None.
    """
    named: dict[str, Any] = {}
    for column, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            named[column] = inner
    if not named:
        return dataset

    def names(row: Row) -> Row:
        return {column: _label_names(label, row[column]) for column, label in named.items()}

    features = dataset.features.copy()
    for column in named:
        text = datasets.Value("string")
        features[column] = text if isinstance(features[column], datasets.ClassLabel) else datasets.List(text)
    return dataset.map(names, features=features)


def _label_names(label: datasets.ClassLabel, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_label_names(label, item) for item in value]
    return None if value < 0 else label.int2str(value)

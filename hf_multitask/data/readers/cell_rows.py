"""Rows of cells with a header, which tables of text and of spreadsheets have in common."""

from collections.abc import Sequence
from pathlib import Path

from ...models.text_inputs import TOKENS_COLUMN
from ...models.type_aliases import Row
from .cells import split_cell
from .file_reader import Columns, Content, FileReader
from .reading_options import ReadingOptions
from .rows import LocatedRow
from .text_lines import shorten

# In a table with a word per line, the column that names the row of the word.
ROW_COLUMN = "row"
NO_HEADER_HINT = (
    "If line 1 is a row and not the header, give `header: false` and `columns` by number, such as "
    "{text: 0, intent: 1}."
)
NO_HEADER_OPTIONS = "On the command line: --no-header --columns text=0."


class CellReader(FileReader[Content]):
    """A table whose first row names the columns. An empty cell is a missing value.

    Args:
        path: The file.
        columns: See `FileReader`. A number is a position, from 0.
        options: Form of the file.
        has_word_per_line: Whether a row has one word, and not all words of a text.
    """

    def __init__(
        self, path: Path, columns: Columns | None, options: ReadingOptions, has_word_per_line: bool = False
    ) -> None:
        super().__init__(path, {ours: str(theirs) for ours, theirs in (columns or {}).items()})
        self._numbers = [theirs for theirs in (columns or {}).values() if isinstance(theirs, int)]
        self._options = options
        self._header: list[str] = []
        self._has_tokens = False
        # The column of cells that contain several words, if the table has one.
        self._tokens = "" if has_word_per_line else self.columns.get(TOKENS_COLUMN, TOKENS_COLUMN)

    def check_columns(self, names: Sequence[str]) -> None:
        """See `FileReader.check_columns`."""
        try:
            super().check_columns(names)
        except ValueError as error:
            raise ValueError(f"{error} {NO_HEADER_HINT}") from None

    def _read_header(self, cells: Sequence[str]) -> list[str]:
        """Return the names of the columns from the cells of line 1."""
        if self._options.header is False:
            header = [str(number) for number in range(len(cells))]
        else:
            header = [cell.strip() for cell in cells]
            header = self._with_numbers(header) if self._numbers else header
        if repeated := sorted({name for name in header if name and header.count(name) > 1}):
            raise ValueError(
                f"{self.path}:1: the header names {', '.join(map(repr, repeated))} more than once. {NO_HEADER_HINT}"
            )
        self.check_columns(header)
        self._has_tokens = self._tokens in header
        return header

    def _with_numbers(self, header: list[str]) -> list[str]:
        """Name the columns that are given as positions by their numbers."""
        if all(str(number) in header for number in self._numbers):
            return header  # names of a header that numbers the columns
        if self._options.header is None:
            raise ValueError(
                f"{self.path}: `columns` has numbers: give `header: true` if line 1 names the columns, or "
                f"`header: false` if it is a row. It is {shorten(', '.join(header))}."
            )
        return [str(i) if i in self._numbers else name for i, name in enumerate(header)]

    def _located(self, cells: Sequence[str], number: int) -> LocatedRow:
        """Return the row of as many cells as the header has."""
        row: Row = {name: cell or None for name, cell in zip(self._header, cells, strict=True)}
        if self._has_tokens:
            self._split_tokens(row, number)
        return LocatedRow(row, number, [])

    def _split_tokens(self, row: Row, number: int) -> None:
        name = str(self._tokens)
        cell = row[name]
        try:
            row[name] = split_cell(cell) if isinstance(cell, str) else cell
        except ValueError as error:
            raise ValueError(f"{self.path}:{number}: column {self._tokens!r}: {error}") from error

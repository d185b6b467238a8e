"""CSV and TSV files: a row of cells per row, or a word per line."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from ...models.text_inputs import TOKENS_COLUMN
from .file_reader import Columns, FileReader, RawRow
from .rows import LocatedRow
from .text_lines import TextLines, decode_line

DELIMITERS = {"csv": ",", "tsv": "\t"}
# In a table with a word per line, the column that names the row of the word.
ROW_COLUMN = "row"

_MAX_CELL_CHARACTERS = 2**31 - 1
# A quote that is never closed would read the rest of the file into one cell.
_MAX_RECORD_BYTES = 64 * 2**20


# The cells of a row, or the error in its lines, and the size of the lines in bytes.
_Record: TypeAlias = tuple[list[str] | ValueError, int]


class TableReader(FileReader[_Record]):
    """A table with a header. An empty cell is a missing value.

    Args:
        path: The file.
        columns: See `FileReader`.
        delimiter: The character between cells.
    """

    def __init__(self, path: Path, columns: Columns | None, delimiter: str) -> None:
        super().__init__(path, columns)
        self._delimiter = delimiter
        self._lines = TextLines(path)
        self._header: list[str] = []
        # Of the record being read: its first line, its size in bytes, and the first error in its lines.
        self._first, self._size = 0, 0
        self._error: ValueError | None = None

    @property
    def share(self) -> float:
        """See `FileReader.share`."""
        return self._lines.share

    def raw_rows(self) -> Iterator[RawRow[_Record]]:
        """See `FileReader.raw_rows`."""
        csv.field_size_limit(_MAX_CELL_CHARACTERS)
        reader = csv.reader(self._decoded_lines(), delimiter=self._delimiter, strict=True)
        self._header = []
        while True:
            self._first, self._size, self._error = 0, 0, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    self._refuse_open_quote()
                cells, self._error = [], self._error or ValueError(f"{self.path}:{self._first}: {error}.")
            if self._header and (cells or self._error):
                yield self._first, (self._error or cells, self._size)
            elif self._error:
                raise self._error
            elif cells:
                self._header = self._checked_header(cells)

    def extent(self, content: _Record) -> tuple[int, int]:
        """See `FileReader.extent`."""
        return 1, content[1]

    def parse(self, number: int, content: _Record) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        cells, header = content[0], self._header
        if isinstance(cells, ValueError):
            raise cells
        if len(cells) != len(header):
            expected = f"expected {len(header)} cells ({', '.join(header)})"
            raise ValueError(f"{self.path}:{number}: {expected}, found {len(cells)}.")
        return (LocatedRow({name: cell or None for name, cell in zip(header, cells, strict=True)}, number, []),)

    def _decoded_lines(self) -> Iterator[str]:
        for number, line in self._lines:
            self._first = self._first or number
            self._size += len(line)
            if self._size > _MAX_RECORD_BYTES:
                self._refuse_open_quote()
            try:
                yield decode_line(self.path, number, line)
            except ValueError as error:
                # The row is broken, but the next one starts only where its quotes end.
                self._error = self._error or error
                yield line.replace(b"\0", b"").replace(b"\r", b"").decode(errors="replace")

    def _refuse_open_quote(self) -> NoReturn:
        # All following rows are in its cell. They would be lost with the broken one.
        raise ValueError(f"{self.path}:{self._first}: a cell begins with a quote that is never closed.")

    def _checked_header(self, cells: Sequence[str]) -> list[str]:
        header = [cell.strip() for cell in cells]
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise ValueError(f"{self.path}:1: the header names {', '.join(map(repr, repeated))} more than once.")
        self.check_columns(header)
        return header


def read_words(path: Path, columns: Columns, delimiter: str) -> Iterator[LocatedRow]:
    """Group the words of a table with a word per line into rows.

    Args:
        path: The table.
        columns: By the library's name of a column, its name in the file. ``row`` tells rows apart: a word whose cell
            is empty belongs to the row of the word before it.
        delimiter: The character between cells.

    Yields:
        The rows, with the library's names of columns.

    Raises:
        ValueError: If ``columns`` names no ``tokens``, or a word is missing. The message names the line.
    """
    table = TableReader(path, columns, delimiter)
    names = {ours: str(theirs) for ours, theirs in columns.items() if ours != ROW_COLUMN}
    row_column = str(columns[ROW_COLUMN])
    if TOKENS_COLUMN not in names:
        raise ValueError(f"{path}: columns.{ROW_COLUMN} needs columns.{TOKENS_COLUMN}, the column of the words.")
    current: LocatedRow | None = None
    current_name = None
    for cells, line, _ in table.rows():
        name = cells[row_column]
        if current is None or (name is not None and name != current_name):
            if current is not None:
                yield current
            current_name = name
            current = LocatedRow({ours: [] for ours in names}, line, [])
        if cells[names[TOKENS_COLUMN]] is None:
            raise ValueError(f"{path}:{line}: the word is missing.")
        current.word_lines.append(line or 0)
        for ours, theirs in names.items():
            current.row[ours].append(cells[theirs])
    if current is not None:
        yield current
